//! The server in the process: sessions over TCP, one task each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iggy_binary_protocol::Operation;
use iggy_binary_protocol::responses::system::get_cluster_metadata::{ClusterMetadataResponse, ClusterNodeResponse};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::replies::{self, Reply};
use super::store::Store;
use crate::frame::{Header, REQUEST_BYTES_MAX, Wish};
use crate::wire::{Incoming, Pieces, Wire, WireError};

/// Iggy's code for "log in first".
const UNAUTHENTICATED: u32 = 40;

/// An Iggy server in the process, on the loopback. Dropping it ends all its sessions.
#[derive(Debug)]
pub struct IggyOrigin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: Option<JoinSet<()>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) roster: ClusterMetadataResponse,
    pub(super) deny_polls: bool,
    /// Polls that came here.
    pub(super) polls: u64,
    sessions: u64,
}

impl IggyOrigin {
    /// Starts on a free port.
    ///
    /// # Panics
    /// If the loopback has none.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn start(store: Store) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = State { store, roster: roster(&[address]), deny_polls: false, polls: 0, sessions: 0 };
        let state = Arc::new(Mutex::new(state));
        Self { address, serving: Some(serve(listener, Arc::clone(&state))), state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it keeps.
    pub fn store<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        change(&mut lock(&self.state).store)
    }

    /// Refuses all polls, or lets them through again.
    pub fn deny_polls(&self, deny: bool) {
        lock(&self.state).deny_polls = deny;
    }

    /// How many polls came here.
    pub fn polls(&self) -> u64 {
        lock(&self.state).polls
    }

    /// Says that it is one node of a cluster in which the first of these decides.
    pub fn say_cluster(&self, nodes: &[SocketAddr]) {
        lock(&self.state).roster = roster(nodes);
    }

    /// Dies: the port is closed and so are all connections. What it keeps stays.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn kill(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
        }
    }

    /// Comes back at the same address. Nobody is logged in any more.
    ///
    /// # Panics
    /// If somebody took the port.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        self.serving = Some(serve(listener, Arc::clone(&self.state)));
    }
}

fn serve(listener: TcpListener, state: Arc<Mutex<State>>) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut sessions = JoinSet::new();
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            drop(socket.set_nodelay(true));
            sessions.spawn(session(Wire::new(socket, REQUEST_BYTES_MAX), Arc::clone(&state)));
        }
    });
    serving
}

async fn session(mut client: Wire, state: Arc<Mutex<State>>) {
    let mut is_logged_in = false;
    while let Ok(Some(request)) = client.incoming().await {
        let Ok(body) = whole(&mut client, &request).await else { return };
        let reply = answer(&mut lock(&state), &mut is_logged_in, &request.header, &body);
        let (code, body) = match reply {
            Ok(body) => (0, body),
            Err(code) => (code, Vec::new()),
        };
        let header = request.header.reply(1, code, body.len());
        let pieces = Pieces::new(vec![header.bytes().clone(), body.into()]);
        if client.write(pieces).await.is_err() {
            return;
        }
    }
}

async fn whole(client: &mut Wire, request: &Incoming) -> Result<Vec<u8>, WireError> {
    let mut body = request.front.to_vec();
    while body.len() < request.header.body_bytes() {
        body.extend_from_slice(&client.more(request.header.body_bytes() - body.len()).await?);
    }
    Ok(body)
}

fn answer(state: &mut State, is_logged_in: &mut bool, header: &Header, body: &[u8]) -> Reply {
    match (header.wish(), header.operation()) {
        (Wish::Session, operation) if operation == Operation::Register as u8 => {
            state.sessions += 1;
            *is_logged_in = true;
            Ok(replies::registered(state.sessions))
        }
        (Wish::Session, _) => {
            *is_logged_in = false;
            Ok(Vec::new())
        }
        (Wish::Ask(code), _) if *is_logged_in || code == iggy_binary_protocol::codes::PING_CODE => {
            replies::asked(state, code, body)
        }
        (_, operation) if *is_logged_in => replies::told(state, operation, body),
        _ => Err(UNAUTHENTICATED),
    }
}

fn roster(nodes: &[SocketAddr]) -> ClusterMetadataResponse {
    let node = |(index, address): (usize, &SocketAddr)| ClusterNodeResponse {
        name: format!("node-{index}"),
        ip: address.ip().to_string(),
        tcp_port: address.port(),
        quic_port: 0,
        http_port: 0,
        websocket_port: 0,
        role: u8::from(index > 0),
        status: 0,
    };
    let nodes = nodes.iter().enumerate().map(node).collect();
    ClusterMetadataResponse { name: "testing".to_owned(), nodes }
}

impl Header {
    /// The operation of a request, as its number.
    fn operation(&self) -> u8 {
        self.bytes()[core::mem::offset_of!(iggy_binary_protocol::RequestHeader, operation)]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
