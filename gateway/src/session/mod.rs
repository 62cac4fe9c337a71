//! One client and its connection to the server: requests one by one, each answered here or passed on.
//!
//! Iggy's sessions are in lockstep: a client waits for the reply before it asks again, and what is not replicated takes
//! no request number, so the server never misses a poll that was answered here. Everything but plain polls goes to the
//! server as it came, and its replies come back as they are; only the roster of the cluster is rewritten.
//!
//! A login lives in the server's connection. When that is lost and the server can be reached, the client's connection
//! is closed, so that the client logs in again. While the server cannot be reached, the client keeps its connection and
//! reads on from the ring what it was allowed to read; all else it is told that the connection is closed. `ask` speaks
//! to the server in the session's name, `polls` decides about polls.

mod ask;
mod polls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iggy_binary_protocol::codes::{GET_CLUSTER_METADATA_CODE, PING_CODE, POLL_MESSAGES_CODE};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::error::SessionError;
use crate::frame::{Header, Wish};
use crate::gateway::Shared;
use crate::origin::Connected;
use crate::roster::Roster;
use crate::settings::Endpoint;
use crate::verdicts::Verdicts;
use crate::wire::{Incoming, Pieces, Wire, WireError};
use crate::written::Written;

/// Iggy's code for "the connection is closed": of what can be said of a server that is not there, the one that makes no
/// SDK give up the connection that it has.
const CONNECTION_CLOSED: u32 = 206;

/// How long a server that ends takes from closing its sessions to closing its port: no reason to believe that it lives.
const SERVER_ENDS: Duration = Duration::from_millis(100);

/// Iggy's code for "not admitted here, ask another node".
const NOT_ACCEPTED: u32 = 58;

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    client: Wire,
    /// `None` while the server is away.
    origin: Option<Connected>,
    away: watch::Receiver<bool>,
    /// Where clients reach the gateway.
    address: Endpoint,
    verdicts: Verdicts,
    written: Written,
    /// What the server's metadata had committed when it last replied.
    commit: u64,
    /// Whether the server's node said that another has to do what was asked.
    was_refused: bool,
}

/// Why a request was not answered.
#[derive(Debug)]
enum Trouble {
    /// The client's connection failed.
    Client(WireError),
    /// The server's did, or it took too long.
    Origin,
}

/// What happens next.
enum Turn {
    /// The client asks.
    Request(Header),
    /// The server says something unasked: that the session is over.
    Unasked(Header),
    /// The server's connection ended.
    OriginLost,
    /// The client is done.
    End,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, client: Wire, origin: Connected, address: Endpoint) -> Self {
        let away = shared.origin.watch();
        let (verdicts, written) = (Verdicts::default(), Written::default());
        Self { shared, client, origin: Some(origin), away, address, verdicts, written, commit: 0, was_refused: false }
    }

    /// Serves the client until either side is done.
    pub(crate) async fn run(mut self) {
        let _open = Open::new(Arc::clone(&self.shared));
        tracing::debug!("a client came");
        match self.turns().await {
            Ok(()) => tracing::debug!("the client is done"),
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "the session ends"),
        }
        self.client.close().await;
    }

    async fn turns(&mut self) -> Result<(), SessionError> {
        loop {
            match self.turn().await? {
                Turn::Request(header) => {
                    let request = self.client.front(header).await.map_err(SessionError::Client)?;
                    self.answer(request).await?;
                    self.client.flush().await.map_err(SessionError::Client)?;
                }
                Turn::Unasked(header) => {
                    let Some(origin) = &mut self.origin else { continue };
                    let unasked = origin.wire.front(header).await.map_err(|_| SessionError::OriginEnded)?;
                    self.relay(unasked).await?;
                    self.client.flush().await.map_err(SessionError::Client)?;
                }
                Turn::OriginLost => self.lost().await?,
                Turn::End => return Ok(()),
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, SessionError> {
        let is_alone = self.origin.is_none();
        tokio::select! {
            biased;
            header = self.client.header() => match header.map_err(SessionError::Client)? {
                Some(header) => Ok(Turn::Request(header)),
                None => Ok(Turn::End),
            },
            word = word_of(&mut self.origin) => Ok(word.map_or(Turn::OriginLost, Turn::Unasked)),
            _ = self.away.wait_for(|away| !*away), if is_alone => Err(SessionError::OriginBack),
            () = sleep(self.shared.settings.idle) => Err(SessionError::Idle),
        }
    }

    async fn answer(&mut self, request: Incoming) -> Result<(), SessionError> {
        match request.header.wish() {
            Wish::Ask(POLL_MESSAGES_CODE) => self.poll(request).await,
            // A heartbeat that fails makes an SDK connect anew.
            Wish::Ask(PING_CODE) if self.origin.is_none() => self.reply(&request, 0).await,
            _ if self.origin.is_none() => self.refuse(request).await,
            wish => self.pass(request, wish).await,
        }
    }

    /// Passes a request on, and takes note of what it means to this session and to others.
    async fn pass(&mut self, mut request: Incoming, wish: Wish) -> Result<(), SessionError> {
        self.shared.counters.passed();
        if wish == Wish::Change {
            self.shared.proofs.change();
        }
        let exchanged = self.exchange(&mut request).await;
        match wish {
            // Once more: a session may have asked between the change and the reply.
            Wish::Change => self.shared.proofs.change(),
            Wish::Session => self.verdicts.forget(),
            _ => {}
        }
        let reply = match exchanged {
            Ok(reply) => reply,
            Err(trouble) => return self.recover(trouble, request).await,
        };
        self.was_refused |= reply.header.is_reply() && reply.header.status() == NOT_ACCEPTED;
        if wish == Wish::Send && reply.header.is_reply() && reply.header.status() == 0 {
            self.written.confirmed(&request.front, reply.body().map_or(&[], |body| body), Instant::now());
        }
        if wish == Wish::Ask(GET_CLUSTER_METADATA_CODE) {
            return self.relay_roster(reply).await;
        }
        self.relay(reply).await
    }

    /// Names the gateway as the only node. Where another node decides than the session's, new sessions go there; this
    /// one does once its node has refused something, which is when an SDK asks again who decides.
    async fn relay_roster(&mut self, reply: Incoming) -> Result<(), SessionError> {
        let Some(roster) = reply.body().and_then(|body| Roster::parse(body)) else { return self.relay(reply).await };
        let connected = self.origin.as_ref().map(|origin| origin.address);
        if let (Some(deciding), Some(connected)) = (roster.deciding(), connected)
            && self.shared.origin.follow(&deciding, connected).await
            && self.was_refused
        {
            return Err(SessionError::OriginEnded);
        }
        let body = roster.only(&self.address);
        let pieces = vec![reply.header.resized(body.len()).bytes().clone(), body];
        self.client.write(Pieces::new(pieces)).await.map_err(SessionError::Client)
    }

    /// Hands the client a frame of the server as it is.
    async fn relay(&mut self, frame: Incoming) -> Result<(), SessionError> {
        let mut rest = frame.rest;
        let mut pieces = vec![frame.header.bytes().clone(), frame.front];
        loop {
            self.client.write(Pieces::new(pieces)).await.map_err(SessionError::Client)?;
            let Some(origin) = self.origin.as_mut().filter(|_| rest > 0) else { return Ok(()) };
            // Half a frame cannot be taken back: the client has to start anew.
            let more = origin.wire.more(rest).await.map_err(|_| SessionError::OriginEnded)?;
            rest -= more.len();
            pieces = vec![more];
        }
    }

    /// An answer of our own without a body.
    async fn reply(&mut self, request: &Incoming, status: u32) -> Result<(), SessionError> {
        let header: Bytes = request.header.reply(self.commit, status, 0).bytes().clone();
        self.client.write(Pieces::new(vec![header])).await.map_err(SessionError::Client)
    }

    /// What a client is told of everything that only the server could do, while it is away.
    async fn refuse(&mut self, request: Incoming) -> Result<(), SessionError> {
        self.client.skip(request.rest).await.map_err(SessionError::Client)?;
        self.reply(&request, CONNECTION_CLOSED).await
    }

    /// Goes on after a request that got no answer. Whether it was carried out is not known, and not claimed.
    async fn recover(&mut self, trouble: Trouble, request: Incoming) -> Result<(), SessionError> {
        match trouble {
            Trouble::Client(error) => Err(SessionError::Client(error)),
            Trouble::Origin => {
                self.lost().await?;
                self.refuse(request).await
            }
        }
    }

    /// The server's connection is lost. Returns if the session can read on without it.
    async fn lost(&mut self) -> Result<(), SessionError> {
        self.origin = None;
        sleep(SERVER_ENDS).await;
        match self.shared.origin.answers().await {
            Ok(()) => Err(SessionError::OriginEnded),
            Err(error) if !self.reads_on() => Err(SessionError::NoOrigin(error)),
            Err(_) => {
                self.shared.origin.is_away();
                Ok(())
            }
        }
    }

    /// Whether there is anything that the session may still read.
    fn reads_on(&self) -> bool {
        let settings = &self.shared.settings;
        let life = settings.verdict + settings.reads_without_origin;
        self.verdicts.any(Instant::now(), life, self.shared.proofs.generation())
    }
}

/// What the server says unasked; `None` if its connection ended. Waits for ever where there is no server.
async fn word_of(origin: &mut Option<Connected>) -> Option<Header> {
    match origin {
        Some(origin) => origin.wire.header().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// Counts a session for as long as it is open, however it ends.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.counters.session_began();
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.session_ended();
    }
}
