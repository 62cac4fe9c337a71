//! Tokens: each opens the local socket once, within seconds, for the session that asked for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use kennel_protocol::wire::LocalToken;

use super::LocalGuest;
use crate::random;

/// How long a token is good: many times what a connection on one host takes.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(5);

/// Tokens that nobody has shown yet. Beyond it nothing is offered until some expire.
const TOKENS_MAX: usize = 1024;

/// Tokens that were issued and not shown yet.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    issued: Mutex<HashMap<LocalToken, (Instant, Weak<LocalGuest>)>>,
}

impl Tokens {
    /// A token for a session; `None` while too many are out.
    pub(super) fn issue(&self, now: Instant, guest: &Arc<LocalGuest>) -> Option<LocalToken> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, (until, guest)| *until > now && guest.strong_count() > 0);
        if issued.len() >= TOKENS_MAX {
            return None;
        }
        let token = LocalToken(random::id());
        issued.insert(token, (now + TOKEN_AGE_MAX, Arc::downgrade(guest)));
        Some(token)
    }

    /// Whose token it is, if it is one, is young enough, and its session is still there. It is used up.
    pub(super) fn take(&self, now: Instant, token: LocalToken) -> Option<Arc<LocalGuest>> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, guest) = issued.remove(&token)?;
        guest.upgrade().filter(|_| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_for_seconds_and_for_its_session() {
        let (tokens, guest) = (Tokens::default(), Arc::new(LocalGuest::default()));
        let now = Instant::now();
        let token = tokens.issue(now, &guest).expect("room");
        assert!(tokens.take(now, LocalToken(token.0 ^ 1)).is_none(), "nobody issued it");
        assert!(tokens.take(now, token).is_some_and(|found| Arc::ptr_eq(&found, &guest)));
        assert!(tokens.take(now, token).is_none(), "once");
        let late = tokens.issue(now, &guest).expect("room");
        assert!(tokens.take(now + TOKEN_AGE_MAX, late).is_none(), "late");
        let orphan = tokens.issue(now, &guest).expect("room");
        drop(guest);
        assert!(tokens.take(now, orphan).is_none(), "its session has ended");
    }

    #[test]
    fn tokens_that_nobody_shows_are_bounded_and_expire() {
        let (tokens, guest) = (Tokens::default(), Arc::new(LocalGuest::default()));
        let now = Instant::now();
        for _ in 0..TOKENS_MAX {
            tokens.issue(now, &guest).expect("room");
        }
        assert!(tokens.issue(now, &guest).is_none());
        assert!(tokens.issue(now + TOKEN_AGE_MAX, &guest).is_some());
    }
}
