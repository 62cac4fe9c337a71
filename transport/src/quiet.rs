//! Descriptors of which the system tells only what somebody waits for.
//!
//! Registered for both directions, as a socket is as a rule, each message that its peer takes in is an event as well: "there is
//! room again". It wakes a thread for nothing, with everything at hand in the way of what is being waited for.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Asks the system for news of one kind.
///
/// # Errors
/// As the system says: too many descriptors, or one that epoll does not take.
#[expect(
    deprecated,
    reason = "what is to replace it is unsafe, for types whose descriptor may change: that of an owned one does not"
)]
pub fn hear_only<T: AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// A Unix stream that tells what arrives, and of room only while somebody waits for some.
#[derive(Debug)]
pub struct QuietStream {
    stream: AsyncFd<UnixStream>,
}

impl QuietStream {
    /// # Errors
    /// As [`hear_only`] says.
    pub fn new(stream: tokio::net::UnixStream) -> io::Result<Self> {
        Ok(Self { stream: hear_only(stream.into_std()?, Interest::READABLE)? })
    }

    /// Waits until something arrives, or the end, and takes note of it: what comes after that is news of its own.
    ///
    /// Read until the socket is empty before waiting again: of what was left there will be no other news.
    ///
    /// # Errors
    /// As the system says.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn news(&self) -> io::Result<()> {
        self.stream.readable().await?.clear_ready();
        Ok(())
    }

    /// Waits until there is room to write.
    ///
    /// # Errors
    /// As the system says; too many descriptors among it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn room(&self) -> io::Result<()> {
        // Epoll takes a descriptor once, and a copy of it once more.
        let again = hear_only(self.socket().try_clone()?, Interest::WRITABLE)?;
        drop(again.writable().await?);
        Ok(())
    }

    /// The socket itself, which does not block.
    pub fn socket(&self) -> &UnixStream {
        self.stream.get_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn pair() -> (QuietStream, UnixStream) {
        let (here, there) = tokio::net::UnixStream::pair().expect("sockets");
        (QuietStream::new(here).expect("a runtime"), there.into_std().expect("a socket"))
    }

    async fn has_news(stream: &QuietStream, patience: Duration) -> bool {
        timeout(patience, stream.news()).await.is_ok_and(|news| news.is_ok())
    }

    #[tokio::test]
    async fn what_arrives_is_news_once_and_so_is_the_end() {
        let (here, mut there) = pair();
        for _ in 0..3 {
            there.write_all(b"news").expect("room");
            assert!(has_news(&here, PATIENCE).await);
            here.socket().read_exact(&mut [0; 4]).expect("it came");
            assert!(!has_news(&here, Duration::from_millis(20)).await);
        }
        drop(there);
        assert!(has_news(&here, PATIENCE).await);
        assert_eq!(here.socket().read(&mut [0; 1]).expect("the end"), 0);
    }

    #[tokio::test]
    async fn room_is_heard_of_when_there_is_some() {
        let (here, mut there) = pair();
        here.room().await.expect("there is");
        while here.socket().write(&[0; 4096]).is_ok() {}
        assert!(timeout(Duration::from_millis(50), here.room()).await.is_err(), "it is full");
        let reading = std::thread::spawn(move || {
            while there.read(&mut [0; 4096]).is_ok() {}
            there
        });
        timeout(PATIENCE, here.room()).await.expect("in time").expect("room");
        reading.join().expect("it read");
    }
}
