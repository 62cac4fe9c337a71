//! Settings of a shipper that runs beside a server, and what they amount to.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::live::{BarrierSettings, IggyServer, LiveSettings, PaceLimits, Password};
use crate::source::Filter;

/// `[iggy]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IggyConfig {
    /// The server, or nodes of its cluster.
    pub addresses: Vec<String>,
    /// Who signs in.
    pub username: String,
    /// With what.
    pub password: Password,
    /// Or a file that holds it.
    pub password_file: std::path::PathBuf,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Whose name the certificate bears.
    pub tls_name: String,
    /// Who signed it.
    pub tls_ca: String,
    /// How many sessions poll.
    pub sessions: usize,
}

/// `[watch]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// The shortest rest between two rounds.
    #[serde(with = "humantime_serde")]
    pub interval_min: Duration,
    /// The longest.
    #[serde(with = "humantime_serde")]
    pub interval_idle: Duration,
    /// The share of a core that rounds may take.
    pub core_percent: u32,
}

/// `[barrier]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarrierConfig {
    /// Whose offset; empty for no barrier.
    pub consumer: String,
    /// Between two moves.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Config {
    /// The server, with the password from wherever it is.
    pub fn iggy_server(&self) -> Result<IggyServer, ConfigError> {
        let iggy = &self.iggy;
        if iggy.addresses.is_empty() {
            return Err(ConfigError::Missing { key: "iggy.addresses", hint: "name the server with --iggy HOST:PORT" });
        }
        let in_file = !iggy.password_file.as_os_str().is_empty();
        let password = match (in_file, iggy.password.is_empty()) {
            (true, _) => Password::read(&iggy.password_file).map_err(ConfigError::Password)?,
            (false, false) => iggy.password.clone(),
            (false, true) => {
                let hint = "name a file with --password-file, or set KENNEL_IGGY__PASSWORD";
                return Err(ConfigError::Missing { key: "iggy.password_file", hint });
            }
        };
        Ok(IggyServer {
            addresses: iggy.addresses.clone(),
            username: iggy.username.clone(),
            password,
            tls: iggy.tls,
            tls_name: iggy.tls_name.clone(),
            tls_ca: Some(iggy.tls_ca.clone()).filter(|file| !file.is_empty()),
        })
    }

    /// What to ship.
    pub fn filter(&self) -> Result<Filter, ConfigError> {
        Filter::new(&self.source.include, &self.source.exclude).map_err(ConfigError::Pattern)
    }

    /// Everything about shipping live, checked.
    pub fn live(&self) -> Result<LiveSettings, ConfigError> {
        let relation = |key, reason| Err(ConfigError::Relation { key, reason });
        let WatchConfig { interval_min, interval_idle, core_percent } = self.watch;
        if interval_min.is_zero() || interval_min > interval_idle {
            return relation("watch.interval_min", "must be above zero and at most watch.interval_idle");
        }
        if !(1..=100).contains(&core_percent) {
            return relation("watch.core_percent", "must be between 1 and 100");
        }
        if !(1..=64).contains(&self.iggy.sessions) {
            return relation("iggy.sessions", "must be between 1 and 64");
        }
        if self.barrier.interval < Duration::from_secs(1) {
            return relation("barrier.interval", "must be at least a second: every move is agreed on by the server");
        }
        let mut shipper = self.shipper()?;
        shipper.reads_max = self.iggy.sessions;
        let (consumer, interval) = (self.barrier.consumer.clone(), self.barrier.interval);
        Ok(LiveSettings {
            shipper,
            patience: self.ring.patience,
            filter: self.filter()?,
            pace: PaceLimits { interval_min, interval_idle, core_percent },
            data_dir: self.data_dir().ok().map(std::path::Path::to_owned),
            barrier: (!consumer.is_empty()).then_some(BarrierSettings { consumer, interval }),
        })
    }

    /// Where HTTP listens, if anywhere.
    pub fn http_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        if self.http.listen.is_empty() {
            return Ok(None);
        }
        let parsed = self.http.listen.parse();
        parsed.map(Some).map_err(|_| ConfigError::Relation { key: "http.listen", reason: "must be ip:port, or empty" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: Vec<(&'static str, figment::value::Value)>) -> Config {
        Config::load(None, flags).expect("known keys")
    }

    #[test]
    fn the_defaults_are_whole_but_for_the_password() {
        let config = load(Vec::new());
        let live = config.live().expect("settings that go together");
        assert_eq!(live.shipper.reads_max, config.iggy.sessions);
        assert_eq!(live.barrier.expect("a barrier").consumer, "kennel");
        assert!(matches!(config.iggy_server(), Err(ConfigError::Missing { key: "iggy.password_file", .. })));
        assert!(config.http_address().expect("an address").is_some());
    }

    #[test]
    fn the_password_is_never_shown() {
        let config = load(vec![("iggy.password", "open sesame".into()), ("barrier.consumer", "".into())]);
        let server = config.iggy_server().expect("a server");
        assert_eq!(server.password.reveal(), "open sesame");
        assert!(!format!("{config:?} {server:?}").contains("sesame"));
        assert!(config.live().expect("settings").barrier.is_none());
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name() {
        for (key, value) in [
            ("watch.interval_min", figment::value::Value::from("1s")),
            ("watch.core_percent", 0.into()),
            ("iggy.sessions", 0.into()),
            ("barrier.interval", "10ms".into()),
        ] {
            let refused = load(vec![(key, value)]).live();
            assert!(matches!(refused, Err(ConfigError::Relation { key: named, .. }) if named == key), "{key}");
        }
        assert!(load(vec![("http.listen", "here".into())]).http_address().is_err());
    }
}
