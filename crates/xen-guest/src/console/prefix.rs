//! The beginnings of log lines, in the forms that the vTPM documentation promises.

use core::fmt;
use log::Level;

/// `INFO[VTPM]: ` for the services, `Info: ` for drivers, by a line's level and target.
pub struct Prefix<'a>(pub Level, pub &'a str);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(level, target) = self;
        match *target {
            "vtpm" | "vtpmmgr" => write!(f, "{level}[VTPM]: "),
            _ => write!(f, "{}: ", driver_level(*level)),
        }
    }
}

fn driver_level(level: Level) -> &'static str {
    match level {
        Level::Error => "Error",
        Level::Warn => "Warn",
        Level::Info => "Info",
        Level::Debug => "Debug",
        Level::Trace => "Trace",
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn services_and_drivers_begin_their_lines_as_documented() {
        for service in ["vtpm", "vtpmmgr"] {
            assert_eq!(Prefix(Level::Info, service).to_string(), "INFO[VTPM]: ");
            assert_eq!(Prefix(Level::Error, service).to_string(), "ERROR[VTPM]: ");
        }
        assert_eq!(Prefix(Level::Info, "tpmback").to_string(), "Info: ");
        assert_eq!(Prefix(Level::Error, "blkfront").to_string(), "Error: ");
    }
}
