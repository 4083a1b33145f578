//! What the user sees: a spinner on a terminal, plain lines everywhere else.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One long step of the work, shown until it is finished.
pub struct Step {
    bar: Option<ProgressBar>,
    what: String,
    since: Instant,
}

impl Step {
    /// Says that `what` begins.
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let fancy = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        let bar = fancy.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("==> {what}");
        }
        Self { bar, what, since: Instant::now() }
    }

    /// Prints one line of a program's output without disturbing the spinner.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// Says that the step is over, with the time it took.
    pub fn done(self) {
        let seconds = self.since.elapsed().as_secs_f32();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("    {} ({seconds:.1} s)", self.what);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line for the reader that belongs to no step.
pub fn say(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}
