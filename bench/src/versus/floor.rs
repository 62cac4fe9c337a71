//! What is below them all: a hundred kilobytes over bare quinn, over bare TCP, out of a file and out of memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::contenders::{Contender, Presence};
use super::{MESSAGE_BYTES, MESSAGES};
use crate::scenario::raw::{RawPeer, RawStream};

pub(super) const QUINN: &str = "bare quinn";
const TCP: &str = "bare TCP";
const FILE: &str = "a file, cached by the kernel";
const COPY: &str = "a copy in memory";

/// As many bytes as a batch of the others has.
pub(super) const BYTES: u64 = 256 + MESSAGES as u64 * (48 + MESSAGE_BYTES as u64);
/// Places that they are taken from, so that not one of them stays in the processor's cache.
pub(super) const PLACES: u64 = 256;

/// All of them.
pub(super) async fn all(directory: &Path) -> anyhow::Result<Vec<Presence>> {
    let peer = RawPeer::start().await?;
    let process = peer.process()?;
    let tcp = TcpStream::connect(peer.tcp_address()).await.context("connect to the answering process")?;
    tcp.set_nodelay(true)?;
    let stream = peer.connect().await?;
    let size = usize::try_from(BYTES).context("small")?;
    let path = directory.join("object");
    std::fs::write(&path, vec![7; size * usize::try_from(PLACES)?]).context("write a file")?;
    let file = File::open(&path).context("open a file")?;
    let source = vec![7; size * usize::try_from(PLACES)?];
    let here = |contender: Box<dyn Contender>| Presence::Here(contender);
    Ok(vec![
        here(Box::new(Quinn { stream, _peer: peer, process })),
        here(Box::new(Tcp { stream: tcp, answer: vec![0; size], process })),
        here(Box::new(Cached { file, answer: vec![0; size] })),
        here(Box::new(Copied { source, answer: vec![0; size] })),
    ])
}

struct Quinn {
    stream: RawStream,
    _peer: RawPeer,
    process: u32,
}

#[async_trait]
impl Contender for Quinn {
    fn name(&self) -> &'static str {
        QUINN
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        self.stream.ask(BYTES).await
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.process])
    }
}

struct Tcp {
    stream: TcpStream,
    answer: Vec<u8>,
    process: u32,
}

#[async_trait]
impl Contender for Tcp {
    fn name(&self) -> &'static str {
        TCP
    }

    async fn ask(&mut self, _question: u64) -> anyhow::Result<()> {
        self.stream.write_all(&BYTES.to_le_bytes()).await?;
        self.stream.read_exact(&mut self.answer).await?;
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(vec![self.process])
    }
}

struct Cached {
    file: File,
    answer: Vec<u8>,
}

#[async_trait]
impl Contender for Cached {
    fn name(&self) -> &'static str {
        FILE
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        Ok(self.file.read_exact_at(&mut self.answer, question * 37 % PLACES * BYTES)?)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(Vec::new())
    }
}

struct Copied {
    source: Vec<u8>,
    answer: Vec<u8>,
}

#[async_trait]
impl Contender for Copied {
    fn name(&self) -> &'static str {
        COPY
    }

    async fn ask(&mut self, question: u64) -> anyhow::Result<()> {
        let size = self.answer.len();
        let at = usize::try_from(question * 37 % PLACES)? * size;
        self.answer.copy_from_slice(&self.source[at..at + size]);
        std::hint::black_box(&self.answer);
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(Vec::new())
    }
}
