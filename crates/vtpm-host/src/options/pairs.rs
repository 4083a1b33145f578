//! swtpm's form of an option's value: `key=value` behind commas, some keys alone.

use anyhow::{Context, Result, bail, ensure};
use std::str::FromStr;

/// The parts of one option's value.
pub struct Pairs<'a> {
    pairs: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Pairs<'a> {
    /// Takes `text` apart. Every key is one of `known` (with a value) or of `alone` (a value is possible, not needed), and none
    /// comes twice.
    pub fn parse(text: &'a str, known: &[&str], alone: &[&str]) -> Result<Self> {
        let mut pairs: Vec<(&str, Option<&str>)> = Vec::new();
        for item in text.split(',') {
            let (key, value) = item.split_once('=').map_or((item, None), |(key, value)| (key, Some(value)));
            if !known.contains(&key) && !alone.contains(&key) {
                let all: Vec<&str> = known.iter().chain(alone).copied().collect();
                bail!("unknown key `{key}`; known are {}", all.join(", "));
            }
            ensure!(value.is_some() || alone.contains(&key), "`{key}` needs a value: {key}=…");
            ensure!(pairs.iter().all(|(k, _)| *k != key), "`{key}` is given twice");
            pairs.push((key, value));
        }
        Ok(Self { pairs })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(k, _)| *k == key).and_then(|(_, value)| *value)
    }

    /// Whether `key` is there.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(k, _)| *k == key)
    }

    /// Whether `key` is there alone or as `true`.
    pub fn is_on(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(self.has(key)),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => bail!("{key}={other}: possible are true and false"),
        }
    }

    /// The value of `key` as a number.
    pub fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.get(key)
            .map(|text| text.parse().with_context(|| format!("{key}={text} is not a possible number")))
            .transpose()
    }

    /// The value of `mode=`: file mode bits in octal, beginning with 0.
    pub fn mode(&self) -> Result<Option<u32>> {
        let Some(text) = self.get("mode") else { return Ok(None) };
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| text.starts_with('0') && *bits <= 0o777);
        Ok(Some(bits.with_context(|| format!("mode={text}: not file mode bits in octal, as 0600"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_apart_or_refused() {
        let pairs = Pairs::parse("a=1,mode=0640,x,y=false", &["a", "mode"], &["x", "y"]).unwrap();
        assert_eq!((pairs.number::<u8>("a").unwrap(), pairs.mode().unwrap()), (Some(1), Some(0o640)));
        assert!(pairs.is_on("x").unwrap() && !pairs.is_on("y").unwrap() && !pairs.is_on("z").unwrap());
        for bad in ["", "a", "b=1", "a=1,a=1", "a=1,", "x=1,,"] {
            assert!(Pairs::parse(bad, &["a"], &["x"]).is_err(), "{bad}");
        }
        for mode in ["640", "0999", "07777", "0", "-1", ""] {
            let text = format!("mode={mode}");
            assert_eq!(Pairs::parse(&text, &["mode"], &[]).unwrap().mode().is_ok(), mode == "0", "{mode}");
        }
        for number in ["256", "-1", "18446744073709551617", "1x", ""] {
            let text = format!("a={number}");
            assert!(Pairs::parse(&text, &["a"], &[]).unwrap().number::<u8>("a").is_err(), "{number}");
        }
    }
}
