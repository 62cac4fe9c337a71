//! Speaks to the server over a session's own connection: what its client asked, and what the gateway wants to know.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Session, Trouble};
use crate::frame::Header;
use crate::wire::{Incoming, Pieces};

/// How long the server may take for a reply. Iggy's own clients give up after 30 s; a session waits a little longer, so
/// that it is the client who decides.
const REPLY_PATIENCE: Duration = Duration::from_secs(40);

impl Session {
    /// Sends a request on and takes the front of the reply.
    pub(super) async fn exchange(&mut self, request: &mut Incoming) -> Result<Incoming, Trouble> {
        let Some(origin) = &mut self.origin else { return Err(Trouble::Origin) };
        let mut pieces = vec![request.header.bytes().clone(), request.front.clone()];
        loop {
            origin.wire.write(Pieces::new(pieces)).await.map_err(|_| Trouble::Origin)?;
            if request.rest == 0 {
                break;
            }
            let more = self.client.more(request.rest).await.map_err(Trouble::Client)?;
            request.rest -= more.len();
            pieces = vec![more];
        }
        origin.wire.flush().await.map_err(|_| Trouble::Origin)?;
        self.replied().await
    }

    /// Asks something of the gateway's own in the name of the client that sent `request`. What is not replicated takes
    /// no number of the client's. A reply that is longer than its front is cut.
    pub(super) async fn ask(&mut self, request: &Header, code: u32, body: Bytes) -> Result<Incoming, Trouble> {
        let Some(origin) = &mut self.origin else { return Err(Trouble::Origin) };
        let header = request.ask(code, body.len());
        let pieces = Pieces::new(vec![header.bytes().clone(), body]);
        origin.wire.write(pieces).await.map_err(|_| Trouble::Origin)?;
        origin.wire.flush().await.map_err(|_| Trouble::Origin)?;
        let reply = self.replied().await?;
        let Some(origin) = &mut self.origin else { return Err(Trouble::Origin) };
        origin.wire.skip(reply.rest).await.map_err(|_| Trouble::Origin)?;
        // Word that the session is over is no reply; the client hears of it when it asks again.
        if reply.header.is_reply() { Ok(reply) } else { Err(Trouble::Origin) }
    }

    async fn replied(&mut self) -> Result<Incoming, Trouble> {
        let Some(origin) = &mut self.origin else { return Err(Trouble::Origin) };
        let incoming = timeout_at(Instant::now() + REPLY_PATIENCE, origin.wire.incoming()).await;
        let Ok(Ok(Some(reply))) = incoming else { return Err(Trouble::Origin) };
        if reply.header.is_reply() {
            self.commit = self.commit.max(reply.header.commit());
        }
        Ok(reply)
    }
}
