//! A client of Iggy's SDK around another one: polls are answered from the ring, everything else passes.

use std::sync::Arc;

use async_broadcast::Receiver;
use async_trait::async_trait;
use bytes::Bytes;
use iggy_binary_protocol::requests::messages::PollMessagesRequest;
use iggy_common::{
    BinaryClient, BinaryTransport, Client, ClientState, ConsumerGroupClientState, Credentials, DiagnosticEvent,
    Identifier, IggyError, NonZeroIggyDuration, VsrSessionControl, VsrSessionSealed,
};
use kennel_gateway::ring::Ring;

use super::counts::CacheCounts;
use super::desk::{CacheSettings, Desk, Origin, wish};
use crate::runtime::Runtime;

/// A client of Iggy's SDK (`TcpClient`, `QuicClient`, `WebSocketClient`) that reads through the ring.
///
/// It has the whole API of the SDK's `Client`. Polls by offset, timestamp, first, last and next are answered from the
/// ring, equal to the server's own answers, once the server has let this client poll the topic and was found to hold
/// the same messages; polls of consumer groups, polls that store an offset, and what the ring does not have go to the
/// server, as does everything that is no poll.
#[derive(Debug)]
pub struct CacheTransport<T> {
    inner: Arc<T>,
    desk: Desk,
    runtime: Option<Runtime>,
}

impl<T: BinaryClient + 'static> CacheTransport<T> {
    /// Reads from `ring` what `inner` may poll.
    pub fn new(inner: T, ring: Arc<dyn Ring>, settings: CacheSettings) -> Self {
        Self { inner: Arc::new(inner), desk: Desk::new(ring, settings), runtime: None }
    }

    /// Runs `inner` on `runtime`: for processes that do not run tokio, which all clients of the SDK need.
    #[must_use]
    pub fn detached(self, runtime: Runtime) -> Self {
        Self { runtime: Some(runtime), ..self }
    }

    /// The client inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What became of polls so far.
    pub fn counts(&self) -> CacheCounts {
        self.desk.counters.counts()
    }

    /// Calls the client inside, where it runs.
    async fn call<F>(&self, call: impl FnOnce(Arc<T>) -> F + Send) -> F::Output
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let calling = call(Arc::clone(&self.inner));
        match &self.runtime {
            Some(runtime) => runtime.run(calling).await,
            None => calling.await,
        }
    }
}

#[async_trait]
impl<T: BinaryClient + 'static> Origin for CacheTransport<T> {
    async fn poll(&self, request: &PollMessagesRequest) -> Result<Bytes, IggyError> {
        let request = request.clone();
        self.call(|inner| async move { inner.send_poll_with_response(&request).await }).await
    }

    async fn ask(&self, code: u32, body: Bytes) -> Result<Bytes, IggyError> {
        self.call(move |inner| async move { inner.send_raw_with_response(code, body).await }).await
    }
}

#[async_trait]
impl<T: BinaryClient + 'static> BinaryTransport for CacheTransport<T> {
    async fn get_state(&self) -> ClientState {
        self.call(|inner| async move { inner.get_state().await }).await
    }

    async fn set_state(&self, state: ClientState) {
        self.call(move |inner| async move { inner.set_state(state).await }).await;
    }

    async fn publish_event(&self, event: DiagnosticEvent) {
        self.call(move |inner| async move { inner.publish_event(event).await }).await;
    }

    async fn send_raw_with_response(&self, code: u32, payload: Bytes) -> Result<Bytes, IggyError> {
        let (wish, request) = (wish(code), payload.clone());
        self.desk.asked(wish);
        let reply = self.ask(code, payload).await;
        self.desk.answered(wish, &request, reply.as_deref().ok());
        reply
    }

    async fn send_offset_write_with_response(&self, code: u32, payload: Bytes) -> Result<Bytes, IggyError> {
        self.call(move |inner| async move { inner.send_offset_write_with_response(code, payload).await }).await
    }

    async fn send_poll_with_response(&self, request: &PollMessagesRequest) -> Result<Bytes, IggyError> {
        self.desk.poll(self, request).await
    }

    fn get_heartbeat_interval(&self) -> NonZeroIggyDuration {
        self.inner.get_heartbeat_interval()
    }

    fn consumer_group_state(&self) -> Arc<ConsumerGroupClientState> {
        self.inner.consumer_group_state()
    }
}

impl<T> VsrSessionSealed for CacheTransport<T> {}

#[async_trait]
impl<T: BinaryClient + 'static> VsrSessionControl for CacheTransport<T> {
    async fn bind_vsr_session(&self, session: u64) -> Result<(), IggyError> {
        self.call(move |inner| async move { inner.bind_vsr_session(session).await }).await
    }

    async fn reset_vsr_session(&self) -> Result<(), IggyError> {
        self.call(|inner| async move { inner.reset_vsr_session().await }).await
    }

    async fn remember_session_credentials(&self, credentials: Credentials, user_id: u32) {
        self.call(move |inner| async move { inner.remember_session_credentials(credentials, user_id).await }).await;
    }

    async fn forget_session_credentials(&self) {
        self.call(|inner| async move { inner.forget_session_credentials().await }).await;
    }

    async fn refresh_session_password(&self, user: &Identifier, new_password: &str) {
        let (user, password) = (user.clone(), new_password.to_owned());
        self.call(move |inner| async move { inner.refresh_session_password(&user, &password).await }).await;
    }

    async fn refresh_session_username(&self, user: &Identifier, new_username: &str) {
        let (user, username) = (user.clone(), new_username.to_owned());
        self.call(move |inner| async move { inner.refresh_session_username(&user, &username).await }).await;
    }

    fn sdk_version(&self) -> &'static str {
        self.inner.sdk_version()
    }
}

#[async_trait]
impl<T: BinaryClient + 'static> Client for CacheTransport<T> {
    async fn connect(&self) -> Result<(), IggyError> {
        self.call(|inner| async move { inner.connect().await }).await
    }

    async fn disconnect(&self) -> Result<(), IggyError> {
        self.call(|inner| async move { inner.disconnect().await }).await
    }

    async fn shutdown(&self) -> Result<(), IggyError> {
        self.call(|inner| async move { inner.shutdown().await }).await
    }

    async fn subscribe_events(&self) -> Receiver<DiagnosticEvent> {
        self.call(|inner| async move { inner.subscribe_events().await }).await
    }
}

impl<T: BinaryClient + 'static> BinaryClient for CacheTransport<T> {}
