//! Misbehaviour on request: scripted for single requests, or for as long as the server runs.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a request does, as far as faults and latency care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writes an object.
    Put,
    /// Reads an object or a range of it.
    Get,
    /// Asks for size and time.
    Head,
    /// Lists keys.
    List,
    /// Deletes one object or many.
    Delete,
}

impl Operation {
    /// Reads it off a request's method and query.
    pub(crate) fn of(method: &str, query: &str) -> Self {
        match method {
            "GET" if query.contains("list-type=") => Self::List,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "DELETE" | "POST" => Self::Delete,
            _ => Self::Put,
        }
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed before the request took effect.
    Reset,
    /// The request takes effect, then the connection is closed without an answer.
    LostAnswer,
    /// The connection is closed at once, and the request takes effect this much later.
    LateEffect(Duration),
    /// This status is answered, without effect.
    Refuse(u16),
    /// The request takes effect, then this status is answered.
    RefuseAfterEffect(u16),
    /// The request is held back for so long before anything happens.
    Stall(Duration),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => formatter.write_str("reset"),
            Self::LostAnswer => formatter.write_str("lost-answer"),
            Self::LateEffect(late) => write!(formatter, "late-effect:{}ms", late.as_millis()),
            Self::Refuse(status) => write!(formatter, "refuse:{status}"),
            Self::RefuseAfterEffect(status) => write!(formatter, "refuse-after:{status}"),
            Self::Stall(pause) => write!(formatter, "stall:{}ms", pause.as_millis()),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let status = || value.parse().map_err(|_| format!("`{value}` is not an HTTP status"));
        let pause = || {
            let millis = value.trim_end_matches("ms").parse();
            millis.map(Duration::from_millis).map_err(|_| format!("`{value}` is not a number of milliseconds"))
        };
        match name {
            "reset" => Ok(Self::Reset),
            "lost-answer" => Ok(Self::LostAnswer),
            "late-effect" => Ok(Self::LateEffect(pause()?)),
            "refuse" => Ok(Self::Refuse(status()?)),
            "refuse-after" => Ok(Self::RefuseAfterEffect(status()?)),
            "stall" => Ok(Self::Stall(pause()?)),
            _ => Err(format!(
                "`{text}` is none of reset, lost-answer, late-effect:MS, refuse:STATUS, refuse-after:STATUS, stall:MS"
            )),
        }
    }
}

/// When a fault happens. Rules are asked in the order in which they were added; the first that fits is used.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// Which operation; `None` is any.
    pub operation: Option<Operation>,
    /// What the key must contain; empty is any key.
    pub key_contains: String,
    /// What goes wrong.
    pub fault: Fault,
    /// How many fitting requests pass untouched before the first is hit.
    pub skip: u32,
    /// How many requests are hit before the rule is used up; `None` is all of them.
    pub times: Option<u32>,
    /// The share of fitting requests that are hit, from 0 to 1.
    pub share: f64,
}

impl FaultRule {
    /// The next PUT whose key contains `key_contains`, once.
    pub fn next_put(key_contains: impl Into<String>, fault: Fault) -> Self {
        Self {
            operation: Some(Operation::Put),
            key_contains: key_contains.into(),
            fault,
            skip: 0,
            times: Some(1),
            share: 1.0,
        }
    }

    /// Every request from now on.
    pub fn every_request(fault: Fault) -> Self {
        Self { operation: None, key_contains: String::new(), fault, skip: 0, times: None, share: 1.0 }
    }

    fn fits(&self, operation: Operation, key: &str) -> bool {
        self.operation.is_none_or(|wanted| wanted == operation) && key.contains(&self.key_contains)
    }
}

/// What the server does wrong with every request, until told otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Always {
    /// `If-None-Match` and `If-Match` have no effect, as on stores that do not know them.
    pub conditions_are_ignored: bool,
    /// An absent key, and a listing, answer 403, as to an identity without the permission to list.
    pub absent_is_forbidden: bool,
}

/// The handle through which tests make a server misbehave. Clones are handles of the same server.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<FaultRule>,
    always: Always,
    hits: u64,
}

impl Faults {
    /// Adds a rule after those that are there.
    pub fn add(&self, rule: FaultRule) {
        self.lock().rules.push(rule);
    }

    /// Drops all rules and all lasting misbehaviour.
    pub fn clear(&self) {
        let mut script = self.lock();
        script.rules.clear();
        script.always = Always::default();
    }

    /// Sets the lasting misbehaviour.
    pub fn set_always(&self, always: Always) {
        self.lock().always = always;
    }

    /// The lasting misbehaviour.
    pub fn always(&self) -> Always {
        self.lock().always
    }

    /// How many requests were hit by a rule so far.
    pub fn hits(&self) -> u64 {
        self.lock().hits
    }

    /// The fault for a request, if any; `chance` is uniform in [0, 1).
    pub(crate) fn pick(&self, operation: Operation, key: &str, chance: f64) -> Option<Fault> {
        let mut script = self.lock();
        let at = script.rules.iter_mut().position(|rule| {
            if !rule.fits(operation, key) || chance >= rule.share {
                return false;
            }
            let hit = rule.skip == 0;
            rule.skip = rule.skip.saturating_sub(1);
            hit
        })?;
        let rule = &mut script.rules[at];
        let fault = rule.fault;
        if let Some(times) = &mut rule.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                script.rules.remove(at);
            }
        }
        script.hits += 1;
        Some(fault)
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_hits_what_it_names_and_is_used_up() {
        let faults = Faults::default();
        faults.add(FaultRule { skip: 1, times: Some(2), ..FaultRule::next_put("log/", Fault::LostAnswer) });
        let picks: Vec<_> = ["claims/1", "log/1", "log/2", "log/3", "log/4"]
            .into_iter()
            .map(|key| faults.pick(Operation::Put, key, 0.5).is_some())
            .collect();
        assert_eq!(picks, [false, false, true, true, false]);
        assert_eq!(faults.hits(), 2);
        assert_eq!(faults.pick(Operation::Get, "log/5", 0.5), None);
    }

    #[test]
    fn a_share_hits_that_share() {
        let faults = Faults::default();
        faults.add(FaultRule { share: 0.25, ..FaultRule::every_request(Fault::Reset) });
        assert_eq!(faults.pick(Operation::Get, "k", 0.25), None);
        assert_eq!(faults.pick(Operation::Get, "k", 0.24), Some(Fault::Reset));
    }

    #[test]
    fn every_fault_reads_back_from_its_text() {
        let second = Duration::from_secs(1);
        for fault in [
            Fault::Reset,
            Fault::LostAnswer,
            Fault::LateEffect(second),
            Fault::Refuse(409),
            Fault::RefuseAfterEffect(503),
            Fault::Stall(second),
        ] {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        assert!("refuse:often".parse::<Fault>().is_err());
    }
}
