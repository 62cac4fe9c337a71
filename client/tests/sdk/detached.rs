//! A process that does not run tokio.

use futures::executor::block_on;
use kennel_client::Runtime;

use super::*;

#[test]
fn futures_need_no_tokio_context() {
    let runtime = Runtime::start(1).expect("threads");
    let rig = block_on(runtime.run(async { Rig::start(&history()).await }));
    let cached = CacheTransport::new(rig.tcp(), Arc::clone(&rig.ring) as _, CacheSettings::default());
    let cached = cached.detached(runtime.clone());
    block_on(async {
        cached.connect().await.expect("a session");
        for strategy in [PollingStrategy::first(), PollingStrategy::next()] {
            assert_eq!(offsets(&poll(&cached, strategy, 12).await), (0..12).collect::<Vec<_>>());
        }
        assert_eq!(cached.counts().served, 2);
        cached.shutdown().await.expect("it ends");
    });
}
