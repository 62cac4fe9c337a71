//! A UDP socket that asks the system only for news of what arrives.
//!
//! A socket is registered with epoll for both directions as a rule, and then each packet that leaves it is an event: "there is
//! room again". Nearly every send is followed by a return from epoll for that alone. Here room is asked after only while there is
//! none. And where one read takes in fewer packets than it could, there is no second one to hear that there are no more:
//! the next packet is an event of its own (epoll(7), edge-triggered).

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::quiet::hear_only;

/// Tokio, with sockets of this kind.
#[derive(Debug)]
pub(super) struct Udp;

impl Runtime for Udp {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Quiet::new(socket)?))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// The socket.
#[derive(Debug)]
struct Quiet {
    socket: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    is_full: AtomicBool,
    /// Where room is waited for, while there is none.
    room: Mutex<Option<Arc<AsyncFd<UdpSocket>>>>,
}

impl Quiet {
    fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = hear_only(socket, Interest::READABLE)?;
        Ok(Self { socket, state, is_full: AtomicBool::new(false), room: Mutex::new(None) })
    }

    /// There is no room: from now on the system is asked for news of it. What becomes free meanwhile is news, too.
    fn fills(&self) -> io::Result<()> {
        let mut room = self.room();
        if room.is_none() {
            let again = self.socket.get_ref().try_clone()?;
            *room = Some(Arc::new(hear_only(again, Interest::WRITABLE)?));
        }
        self.is_full.store(true, Ordering::Release);
        Ok(())
    }

    /// There is room, as somebody heard who waited there.
    fn empties(&self, waited: &Arc<AsyncFd<UdpSocket>>) {
        let mut room = self.room();
        if room.as_ref().is_some_and(|room| Arc::ptr_eq(room, waited)) {
            *room = None;
            self.is_full.store(false, Ordering::Release);
        }
    }

    /// One handle, which is replaced as a whole: a panic under this lock leaves it so.
    fn room(&self) -> MutexGuard<'_, Option<Arc<AsyncFd<UdpSocket>>>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for Quiet {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(UdpSockRef::from(self.socket.get_ref()), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.fills()?;
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(context))?;
            match self.state.recv(UdpSockRef::from(self.socket.get_ref()), buffers, meta) {
                Ok(received) => {
                    if takes_all_there_is(received, buffers.len()) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Whether a read that took in so many packets has emptied the socket: recvmmsg(2) goes on until it has, or is full. Elsewhere
/// than on Linux a read may be of one packet.
fn takes_all_there_is(received: usize, buffers: usize) -> bool {
    cfg!(target_os = "linux") && received < buffers.min(BATCH_SIZE)
}

/// One session's wait for room.
struct Room {
    socket: Arc<Quiet>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.socket.is_full.load(Ordering::Acquire) {
            self.waiting = None;
            return Poll::Ready(Ok(()));
        }
        let socket = &self.socket;
        let Some(room) = socket.room().clone() else { return Poll::Ready(Ok(())) };
        let heard = Arc::clone(socket);
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                drop(room.writable().await?);
                heard.empties(&room);
                Ok(())
            })
        });
        let result = ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("waits", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    use super::*;

    fn socket() -> Arc<Quiet> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        Arc::new(Quiet::new(socket).expect("a runtime"))
    }

    async fn receive(socket: &Quiet) -> Vec<Vec<u8>> {
        let mut bytes = vec![[0_u8; 64]; BATCH_SIZE];
        let mut meta = vec![RecvMeta::default(); BATCH_SIZE];
        let received = poll_fn(|context| {
            let mut buffers: Vec<_> = bytes.iter_mut().map(|bytes| IoSliceMut::new(bytes)).collect();
            socket.poll_recv(context, &mut buffers, &mut meta)
        });
        let received = received.await.expect("packets");
        (0..received).map(|at| bytes[at][..meta[at].len].to_vec()).collect()
    }

    fn send(from: &Quiet, to: &Quiet, contents: &[u8]) {
        let destination = to.local_addr().expect("bound");
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
        from.try_send(&transmit).expect("room");
    }

    #[tokio::test]
    async fn each_packet_arrives_after_a_read_that_has_emptied_the_socket() {
        let (one, other) = (socket(), socket());
        for round in 0..100_u8 {
            send(&one, &other, &[round]);
            assert_eq!(receive(&other).await, [[round]]);
        }
    }

    #[tokio::test]
    async fn more_packets_than_one_read_takes_all_arrive() {
        let (one, other) = (socket(), socket());
        let sent = 3 * BATCH_SIZE + 1;
        for round in 0..sent {
            send(&one, &other, &[u8::try_from(round).expect("a few")]);
        }
        let mut received = Vec::new();
        while received.len() < sent {
            received.extend(receive(&other).await.into_iter().map(|packet| usize::from(packet[0])));
        }
        assert_eq!(received, (0..sent).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn all_who_wait_hear_of_room_and_then_nobody_asks_after_it() {
        let socket = socket();
        let mut pollers = [socket.clone().create_io_poller(), socket.clone().create_io_poller()];
        for round in 0..2 {
            poll_fn(|context| pollers[0].as_mut().poll_writable(context)).await.expect("room");
            socket.fills().expect("a descriptor");
            socket.fills().expect("the same one");
            for poller in &mut pollers {
                poll_fn(|context| poller.as_mut().poll_writable(context)).await.expect("room");
            }
            assert!(socket.room().is_none() && !socket.is_full.load(Ordering::Acquire), "round {round}");
        }
    }
}
