//! An endpoint as its users see it: landings to be written, and placements into others' landings.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::advert::LandingAdvert;
use crate::counters::Counters;
use crate::driver::Driver;
use crate::error::{AdvertError, FabricError};
use crate::landing::{Landing, Pool};
use crate::library::{Library, Provider};
use crate::limits::{ADDRESS_BYTES_MAX, COMMANDS_MAX, PIECES_MAX};
use crate::open::open;
use crate::peers::Peers;
use crate::placements::{Command, Placed, Placements};
use crate::settings::EndpointSettings;
use crate::sys::Kind;

/// An open endpoint with its thread. Dropping it closes everything, waits for that some milliseconds, and fails what is
/// under way. Bytes that were filled stay valid.
pub struct Endpoint {
    pool: Arc<Pool>,
    provider: Provider,
    commands: mpsc::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Opens an endpoint, and registers all its memory. Blocks meanwhile: some milliseconds, with a card more.
    pub fn open(library: &Library, settings: &EndpointSettings) -> Result<Self, FabricError> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (opened_to, opened) = std_mpsc::sync_channel(1);
        let (library, settings) = (library.clone(), settings.clone());
        let thread = thread::Builder::new()
            .name("kennel-fabric".to_owned())
            .spawn(move || match start(&library, &settings, receiver) {
                Ok((provider, driver)) => {
                    let _ = opened_to.send(Ok((provider, Arc::clone(&driver.pool))));
                    driver.run();
                }
                Err(error) => {
                    let _ = opened_to.send(Err(error));
                }
            })
            .map_err(|source| FabricError::System { what: "a thread", source })?;
        let (provider, pool) = opened.recv().map_err(|_| FabricError::Closed)??;
        Ok(Self { pool, provider, commands, thread: Some(thread) })
    }

    /// Who moves the bytes.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// What happened so far. The handle outlives the endpoint.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.pool.counters
    }

    /// A landing for one answer, if one is free now.
    pub fn landing(&self) -> Result<Landing, FabricError> {
        self.pool.take()
    }

    /// Writes bytes to a peer's landing, from its first byte on. They have arrived when this returns.
    ///
    /// [`FabricError::Deadline`] is no failure but not knowing: they may still arrive, in whole or in part.
    ///
    /// # Cancel safety
    /// Dropped, it goes on: what was begun ends by itself, and holds its bytes until then.
    pub async fn place(
        &self,
        advert: LandingAdvert,
        pieces: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<Placed, FabricError> {
        let answer = self.begin(Kind::Write, advert, pieces, deadline)?;
        answer.await.map_err(|_| FabricError::Closed)?
    }

    /// Begins what `place` waits for.
    pub(crate) fn begin(
        &self,
        kind: Kind,
        advert: LandingAdvert,
        pieces: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Placed, FabricError>>, FabricError> {
        let bytes = pieces.iter().map(Bytes::len).fold(0, usize::saturating_add);
        let room = advert.bytes as usize;
        if bytes > room {
            return Err(FabricError::TooLong { bytes, room });
        }
        let address_bytes = advert.fabric_address.len();
        if !(1..=ADDRESS_BYTES_MAX).contains(&address_bytes) {
            return Err(AdvertError::Address(address_bytes).into());
        }
        let (answer, receiver) = oneshot::channel();
        if bytes == 0 {
            let _ = answer.send(Ok(Placed { len: 0 }));
            return Ok(receiver);
        }
        if pieces.len() > PIECES_MAX {
            return Err(FabricError::Busy);
        }
        let command = Command { kind, advert, pieces, deadline, answer };
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => FabricError::Busy,
            mpsc::error::TrySendError::Closed(_) => FabricError::Closed,
        })?;
        self.pool.bell.ring();
        Ok(receiver)
    }
}

fn start(
    library: &Library,
    settings: &EndpointSettings,
    commands: mpsc::Receiver<Command>,
) -> Result<(Provider, Driver), FabricError> {
    let opened = open(library, settings)?;
    let forgets_busy = opened.provider.forgets_busy_peers();
    let peers = Peers::new(opened.own_address, opened.raw.offer().address_form(), forgets_busy);
    let driver = Driver {
        ends_writes_on_close: opened.provider.ends_writes_on_close(),
        raw: opened.raw,
        pool: Arc::new(opened.pool),
        commands,
        placements: Placements::new(peers, opened.send_buffers, settings.send_bytes, opened.copies),
        retired: Vec::new(),
        retired_max: settings.landing_count,
    };
    Ok((opened.provider, driver))
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has closed everything on its way out, and nothing more can be done here.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("provider", &self.provider).finish_non_exhaustive()
    }
}
