//! The socket: who comes in, and what they get.
//!
//! Whoever can reach the socket may knock; only who shows a token that a session was given gets the slab. A connection is
//! given up on anything that it does not say right or in time.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kennel_protocol::limits::SOCKET_PATH_BYTES_MAX;
use kennel_protocol::local::{Entrance, Grant, LOCAL_MESSAGE_BYTES};
use kennel_slab::socket::send_with_descriptor;
use kennel_transport::quiet::QuietStream;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::link::Link;
use super::wakes::{Later, Wakes};
use super::{Local, LocalGuest};
use crate::config::LocalSettings;
use crate::read::Tail;

/// How long a connection may take to show its token.
const TOKEN_PATIENCE: Duration = Duration::from_secs(2);

/// How long nothing is accepted after the system refused: too many open files, most of the time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections at once, those that have shown nothing yet included: as many as sessions by default.
const LINKS_MAX: usize = 1024;

/// Who may connect: the node's user and its group.
const SOCKET_MODE: u32 = 0o660;

/// Why the node cannot share anything with its host.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The system has no sealed memory. Fix: Linux 5.1 or newer, or empty `listen.local`.
    #[error("this system has no sealed memory to share (Linux 5.1 and newer have)")]
    Memory(#[source] io::Error),
    /// The system does not say which host it is. Fix: mount /proc, or empty `listen.local`.
    #[error("this system does not say which host it is (/proc is not mounted)")]
    NoHost,
    /// The socket cannot be made. Fix: the path.
    #[error("cannot listen at {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The socket, and what is behind it.
#[derive(Debug)]
pub(crate) struct Doors {
    local: Arc<Local>,
    listener: UnixListener,
    later: mpsc::Receiver<Later>,
}

/// Makes the slab and listens at the socket. Nobody comes in before [`Doors::run`].
pub(crate) fn open(settings: &LocalSettings, tails: Vec<Arc<Tail>>) -> Result<(Arc<Local>, Doors), LocalError> {
    let failed = |source| LocalError::Socket { path: settings.socket.clone(), source };
    // Readers may stand in another directory than the node.
    let path = std::path::absolute(&settings.socket).map_err(failed)?;
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let reason = format!("its path has more than {SOCKET_PATH_BYTES_MAX} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    let (wakes, later) = Wakes::new();
    let local = Arc::new(Local::new(settings, path.clone(), tails, wakes)?);
    let listener = bind(&path).map_err(failed)?;
    Ok((Arc::clone(&local), Doors { local, listener, later }))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    // Left by a process that was killed: the journal's lock has seen to it that there is no other one.
    if path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

impl Doors {
    /// Takes connections until `stop` says so.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { local, listener, mut later } = self;
        let (links, ids) = (Arc::new(Semaphore::new(LINKS_MAX)), AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = accept(&listener) => {
                    let Ok(permit) = Arc::clone(&links).try_acquire_owned() else {
                        local.refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let (local, id) = (Arc::clone(&local), ids.fetch_add(1, Ordering::Relaxed));
                    tasks.spawn(async move {
                        local.admit(id, accepted).await;
                        drop(permit);
                    });
                }
                Some(later) = later.recv() => local.do_later(later),
                Some(_) = tasks.join_next() => {}
            }
        }
        tasks.shutdown().await;
        // Whoever starts next makes it anew.
        drop(std::fs::remove_file(&local.path));
    }
}

/// The next connection. Where the system gives none it is asked again later, and not at once for ever.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(error = %error, "a local connection could not be taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Local {
    async fn admit(self: Arc<Self>, id: u64, mut stream: UnixStream) {
        let Some(guest) = timeout(TOKEN_PATIENCE, self.enter(&mut stream)).await.ok().flatten() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::info!("a local connection without a good token was refused");
            return;
        };
        // From here on commits are copied. What came before it fetches as any reader does.
        let presence = Presence::begin(&self, guest);
        if timeout(TOKEN_PATIENCE, self.grant(&stream)).await.is_ok_and(|granted| granted.is_ok()) {
            // Room is heard of only while there is none: each wake that a reader takes in would wake the node.
            let Ok(stream) = QuietStream::new(stream) else { return };
            let link = Link::new(id, stream);
            let gone = Leaving { local: &self, link: &link };
            link.serve(|request| self.request_wake(&link, request)).await;
            drop(gone);
        }
        drop(presence);
    }

    async fn enter(&self, stream: &mut UnixStream) -> Option<Arc<LocalGuest>> {
        let mut bytes = [0; LOCAL_MESSAGE_BYTES];
        stream.read_exact(&mut bytes).await.ok()?;
        self.tokens.take(Instant::now(), Entrance::decode(&bytes)?.token)
    }

    async fn grant(&self, stream: &UnixStream) -> io::Result<()> {
        let bytes = Grant { bytes: self.bytes, slab: self.slab }.encode();
        let send = || {
            let filled = self.filled();
            send_with_descriptor(stream, &bytes, filled.slab.descriptor())
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// What a shard left to the task.
    fn do_later(&self, later: Later) {
        match later {
            Later::Changed(shard) => self.wakes.wake_shard(shard),
            committed @ Later::Committed(..) => {
                committed.requests().into_iter().for_each(|(link, request)| self.request_wake(&link, request));
            }
        }
    }
}

/// A reader has the slab as long as this lives.
struct Presence<'local> {
    local: &'local Local,
    guest: Arc<LocalGuest>,
}

impl<'local> Presence<'local> {
    fn begin(local: &'local Local, guest: Arc<LocalGuest>) -> Self {
        local.readers.fetch_add(1, Ordering::Relaxed);
        guest.has_slab.store(true, Ordering::Relaxed);
        Self { local, guest }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.guest.has_slab.store(false, Ordering::Relaxed);
        self.local.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a reader's requests away when it goes, however its task ends.
struct Leaving<'local> {
    local: &'local Local,
    link: &'local Link,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.local.wakes.leave(self.link);
    }
}
