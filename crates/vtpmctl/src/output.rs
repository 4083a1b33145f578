//! What is printed: JSON with `--json`, else lines for people.

use crate::error::Error;
use serde_json::Value;
use std::io::{ErrorKind, Write};

/// Prints the same thing in one of two ways.
pub struct Output {
    /// JSON is wanted.
    pub json: bool,
}

impl Output {
    /// `value` as JSON, or the lines of `text`.
    pub fn show(&self, value: &Value, text: &str) -> Result<(), Error> {
        if self.json { self.print(&format!("{value:#}\n")) } else { self.print(text) }
    }

    /// Text as it is.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read on had enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| Error::Input(format!("cannot write the output: {error}"))),
        }
    }
}

/// Lines of names and values, the values below each other.
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Lines of columns, with a line of headings.
pub fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(headings.to_vec());
    rows.iter().for_each(|row| text += &line(row.iter().map(String::as_str).collect()));
    text
}
