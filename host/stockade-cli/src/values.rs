//! Values of options: durations, sizes and grants, as people write them.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use stockade::Layer;

/// A time, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WallTime(pub(crate) Option<Duration>);

impl FromStr for WallTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let refused =
            || "write a number and a unit, as in 500ms, 2s, 1.5m or 1h; or `none`".to_string();
        let (number, unit) = split(text);
        let seconds_per_unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(refused()),
        };
        let number: f64 = number.parse().map_err(|_| refused())?;
        let time = Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|_| refused())?;
        if time.is_zero() {
            return Err("it must be longer than 0".into());
        }
        Ok(Self(Some(time)))
    }
}

/// Reads a time.
///
/// # Errors
/// If it is none.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    text.parse::<WallTime>()?.0.ok_or_else(|| "it must be a time, as 30s or 5m".into())
}

/// Layers of the lockdown: one by its name, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layers(pub(crate) Vec<Layer>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(Layer::ALL.to_vec()));
        }
        match Layer::from_name(text) {
            Some(layer) => Ok(Self(vec![layer])),
            None => {
                let known = Layer::ALL.map(Layer::name).join(", ");
                Err(format!("the layers are {known}; `all` means every layer"))
            }
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            "write a number of bytes, or one with a unit: 64MiB and 64M are 64 × 1024 × 1024, 64MB \
             is 64,000,000"
                .to_string()
        };
        let (number, unit) = split(text);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(refused()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(|| "it is too large".into());
        }
        match number.parse::<f64>() {
            Ok(part) if part >= 0.0 && part * factor as f64 <= (1u64 << 53) as f64 => {
                Ok(Self((part * factor as f64) as u64))
            }
            _ => Err(refused()),
        }
    }
}

/// The number at the front of `text`, and the rest.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// A directory that guests may reach: `HOST[::GUEST][:rw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirGrant {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) writable: bool,
}

impl DirGrant {
    /// The guest's folder however it is written: `/data/`, `/./data` and `/data` are one.
    fn folder(&self) -> String {
        let parts = self.guest.split('/').filter(|part| !part.is_empty() && *part != ".");
        let root = if self.guest.starts_with('/') { "/" } else { "" };
        format!("{root}{}", parts.collect::<Vec<_>>().join("/"))
    }
}

impl FromStr for DirGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (paths, writable) = match text.strip_suffix(":rw") {
            Some(paths) => (paths, true),
            None => (text.strip_suffix(":ro").unwrap_or(text), false),
        };
        // The last one, because a host's path may hold colons and a guest's need not.
        let (host, guest) = paths.rsplit_once("::").unwrap_or((paths, paths));
        if host.is_empty() || guest.is_empty() {
            return Err("write HOST, HOST::GUEST or HOST::GUEST:rw".into());
        }
        Ok(Self { host: host.into(), guest: guest.into(), writable })
    }
}

/// Refuses grants of which one would hide another.
///
/// # Errors
/// In words, the first that is granted twice.
pub(crate) fn check_grants(directories: &[DirGrant], variables: &[EnvGrant]) -> Result<(), String> {
    let mut folders = HashMap::new();
    for grant in directories {
        let host = grant.host.display();
        match folders.insert(grant.folder(), grant) {
            Some(other) if other == grant => {
                return Err(format!("the directory {host} is granted twice as {}", grant.guest));
            }
            Some(other) => {
                let other = other.host.display();
                return Err(format!("{other} and {host} are both granted as {}", grant.guest));
            }
            None => {}
        }
    }
    let mut names = HashSet::new();
    match variables.iter().find(|grant| !names.insert(&grant.name)) {
        Some(twice) => Err(format!("the variable `{}` is granted twice", twice.name)),
        None => Ok(()),
    }
}

/// An environment variable that guests may see: `NAME=VALUE`, or `NAME` for the value that this
/// process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvGrant {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for EnvGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_string()),
            None if text.is_empty() => ("", String::new()),
            None => match std::env::var(text) {
                Ok(value) => (text, value),
                Err(std::env::VarError::NotPresent) => {
                    return Err("it is not set here; give it a value with NAME=VALUE".into());
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err("its value here is not UTF-8".into());
                }
            },
        };
        if name.is_empty() || name.contains('\0') || value.contains('\0') {
            return Err("write NAME or NAME=VALUE, without NUL characters".into());
        }
        Ok(Self { name: name.into(), value })
    }
}

/// Reads a whole number that is allowed.
pub(crate) fn whole(
    allowed: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| {
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        number.ok_or_else(|| match (allowed.start(), allowed.end()) {
            (0, &u64::MAX) => format!("write a whole number in digits, up to {}", u64::MAX),
            (least, most) => format!("write a whole number in digits, from {least} to {most}"),
        })
    }
}

/// Reads how often a task is tried again.
pub(crate) fn retries(text: &str) -> Result<u32, String> {
    whole(0..=1000)(text).map(|number| number as u32)
}

/// An argument by name: `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.into(), value: value.into() })
            }
            _ => Err("write NAME=VALUE, as in limit=10".into()),
        }
    }
}

/// An argument by position or by name: it is by name where it begins with an identifier and `=`,
/// which no JSON does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Position(String),
    Name(Named),
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let by_name = text.split_once('=').filter(|(name, _)| is_identifier(name));
        Ok(match by_name {
            Some((name, value)) => Self::Name(Named { name: name.into(), value: value.into() }),
            None => Self::Position(text.into()),
        })
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_in_their_range() {
        let (any, some) = (whole(0..=u64::MAX), whole(1..=1024));
        assert_eq!((any("0"), any("18446744073709551615")), (Ok(0), Ok(u64::MAX)));
        assert_eq!((some("1"), some("1024")), (Ok(1), Ok(1024)));
        assert_eq!((retries("0"), retries("1000")), (Ok(0), Ok(1000)));
        for refused in ["1e3", "-1", "1.5", "", " 1", "18446744073709551616", "x"] {
            assert!(any(refused).unwrap_err().starts_with("write a whole number"), "{refused}");
        }
        for refused in ["0", "1025", "1e3"] {
            assert!(some(refused).unwrap_err().ends_with("from 1 to 1024"), "{refused}");
        }
        assert!(retries("1001").is_err());
    }

    #[test]
    fn times_have_units() {
        let time = |text: &str| text.parse::<WallTime>().map(|time| time.0);
        assert_eq!(time("500ms"), Ok(Some(Duration::from_millis(500))));
        assert_eq!(time("2s"), Ok(Some(Duration::from_secs(2))));
        assert_eq!(time("1.5m"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(time("1h"), Ok(Some(Duration::from_secs(3600))));
        assert_eq!(time("none"), Ok(None));
        for refused in ["", "2", "s", "2d", "-1s", "0s", "1e9s", "1.2.3s", "99999999999999999999h"]
        {
            assert!(time(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn sizes_are_binary_unless_they_say_otherwise() {
        let size = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("64MB"), Ok(64_000_000));
        assert_eq!(size("1.5GiB"), Ok(3 << 29));
        for refused in ["", "MiB", "64 MiB", "-1", "1TiB", "1.2.3M", "99999999999999999999G"] {
            assert!(size(refused).is_err(), "{refused}");
        }
        assert!(size("18446744073709551615k").is_err());
    }

    #[test]
    fn a_directory_keeps_its_name_unless_it_gets_another() {
        let grant = |host: &str, guest: &str, writable| {
            Ok(DirGrant { host: host.into(), guest: guest.into(), writable })
        };
        assert_eq!("data".parse(), grant("data", "data", false));
        assert_eq!("data:rw".parse(), grant("data", "data", true));
        assert_eq!("/srv/a::/data".parse(), grant("/srv/a", "/data", false));
        assert_eq!("/srv/a::/data:rw".parse(), grant("/srv/a", "/data", true));
        assert_eq!("/srv/a::b::/data:ro".parse(), grant("/srv/a::b", "/data", false));
        assert!("::/data".parse::<DirGrant>().is_err());
        assert!("data::".parse::<DirGrant>().is_err());
        assert!("".parse::<DirGrant>().is_err());
    }

    #[test]
    fn what_is_granted_twice_is_refused() {
        let check = |directories: &[&str], variables: &[&str]| {
            let directories: Vec<DirGrant> =
                directories.iter().map(|text| text.parse().unwrap()).collect();
            let variables: Vec<EnvGrant> =
                variables.iter().map(|text| text.parse().unwrap()).collect();
            check_grants(&directories, &variables)
        };
        check(&["a::/a", "a::/b", "b::/a/b", "c::data"], &["A=1", "B=1"]).unwrap();
        for twice in [["a::/a", "b::/a"], ["a::/a", "b::/a/:rw"], ["a::x", "b::./x"], ["a", "a"]] {
            assert!(check(&twice, &[]).is_err(), "{twice:?}");
        }
        assert!(check(&["a", "a"], &[]).unwrap_err().contains("granted twice as a"));
        assert!(check(&[], &["A=1", "A=2"]).unwrap_err().contains("`A` is granted twice"));
    }

    #[test]
    fn a_variable_has_a_value_here_or_gets_one() {
        let grant =
            |name: &str, value: &str| Ok(EnvGrant { name: name.into(), value: value.into() });
        assert_eq!("MODE=a=b".parse(), grant("MODE", "a=b"));
        assert_eq!("EMPTY=".parse(), grant("EMPTY", ""));
        assert!("STOCKADE_NO_SUCH_VARIABLE".parse::<EnvGrant>().is_err());
        assert!("=value".parse::<EnvGrant>().is_err());
    }

    #[test]
    fn json_is_never_mistaken_for_an_argument_by_name() {
        let named = |name: &str, value: &str| {
            Ok(Given::Name(Named { name: name.into(), value: value.into() }))
        };
        assert_eq!("model=@m.json".parse(), named("model", "@m.json"));
        assert_eq!("text=a=b".parse(), named("text", "a=b"));
        for text in ["\"a=b\"", "{\"a\": \"=\"}", "@a=b.json", "1", "=x", "2x=3"] {
            assert_eq!(text.parse(), Ok(Given::Position(text.into())));
        }
    }
}
