//! Log messages made harmless: they quote xenstore values, arguments and device answers.

use core::fmt::{self, Write};

/// Passes text on with every control character but the line feed as `?` (no escape sequence reaches a terminal), and with lines
/// after the first indented, so that no quoted text can look like a log line of its own.
pub struct Clean<W>(pub W);

impl<W: Write> Write for Clean<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            let Some(control) = piece.chars().next_back().filter(|last| last.is_control()) else {
                self.0.write_str(piece)?;
                continue;
            };
            self.0.write_str(&piece[..piece.len() - control.len_utf8()])?;
            self.0.write_str(if control == '\n' { "\n    " } else { "?" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    fn cleaned(pieces: &[&str]) -> String {
        let mut out = String::new();
        let mut clean = Clean(&mut out);
        pieces.iter().for_each(|piece| clean.write_str(piece).unwrap());
        out
    }

    #[test]
    fn plain_text_passes() {
        assert_eq!(cleaned(&["", "plain ", "text, \u{fc}ber"]), "plain text, \u{fc}ber");
    }

    #[test]
    fn escape_sequences_do_not() {
        assert_eq!(cleaned(&["\x1b[2J\x07a\r\0\u{9b}b\x7f"]), "?[2J?a???b?");
    }

    #[test]
    fn a_quoted_line_cannot_start_a_line() {
        assert_eq!(cleaned(&["uuid \n", "Info: all is well\n\n"]), "uuid \n    Info: all is well\n    \n    ");
    }
}
