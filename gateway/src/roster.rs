//! What clients are told of the cluster: that it is the gateway, and nothing else.
//!
//! Iggy's SDKs ask for the nodes after every login, move to the node that decides, and remember the others to fail over
//! to. Told of a single node they do neither. So the roster that passes is rewritten to the gateway's address; sends
//! and stored offsets then come through the gateway, too.

use bytes::Bytes;
use iggy_binary_protocol::responses::system::get_cluster_metadata::{ClusterMetadataResponse, ClusterNodeResponse};
use iggy_binary_protocol::{WireDecode, WireEncode};

use crate::settings::Endpoint;

/// Iggy's role of the node that decides, and its status of a node that is well.
const DECIDES: u8 = 0;
const HEALTHY: u8 = 0;

/// Most nodes that a roster names: far more than any cluster has.
const NODES_MAX: usize = 1024;

/// A roster as the server sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster(ClusterMetadataResponse);

impl Roster {
    /// The roster in a reply; `None` if it is none.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let roster = ClusterMetadataResponse::decode_from(body).ok()?;
        (1..=NODES_MAX).contains(&roster.nodes.len()).then_some(Self(roster))
    }

    /// The node that decides, where there are several and it is well.
    pub(crate) fn deciding(&self) -> Option<Endpoint> {
        if self.0.nodes.len() == 1 {
            return None;
        }
        let deciding = self.0.nodes.iter().find(|node| node.role == DECIDES && node.status == HEALTHY)?;
        (deciding.tcp_port != 0).then(|| Endpoint { host: deciding.ip.clone(), port: deciding.tcp_port })
    }

    /// The body of a reply that names the gateway alone. Other transports than TCP are not spoken there.
    pub(crate) fn only(&self, gateway: &Endpoint) -> Bytes {
        let name = self.0.nodes.first().map(|node| node.name.clone()).unwrap_or_default();
        let node = ClusterNodeResponse {
            name,
            ip: gateway.host.clone(),
            tcp_port: gateway.port,
            quic_port: 0,
            http_port: 0,
            websocket_port: 0,
            role: DECIDES,
            status: HEALTHY,
        };
        ClusterMetadataResponse { name: self.0.name.clone(), nodes: vec![node] }.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16, role: u8) -> ClusterNodeResponse {
        ClusterNodeResponse {
            name: format!("node-{port}"),
            ip: "10.0.0.5".to_owned(),
            tcp_port: port,
            quic_port: 1,
            http_port: 2,
            websocket_port: 3,
            role,
            status: HEALTHY,
        }
    }

    fn roster(nodes: Vec<ClusterNodeResponse>) -> Roster {
        let body = ClusterMetadataResponse { name: "cluster".to_owned(), nodes }.to_bytes();
        Roster::parse(&body).expect("a roster")
    }

    #[test]
    fn clients_hear_of_the_gateway_alone() {
        let gateway = Endpoint { host: "::1".to_owned(), port: 7500 };
        let told = roster(vec![node(1, 1), node(2, DECIDES), node(3, 1)]).only(&gateway);
        let told = ClusterMetadataResponse::decode_from(&told).expect("a roster");
        assert_eq!(told.name, "cluster");
        let [node] = &told.nodes[..] else { panic!("one node: {told:?}") };
        assert_eq!((node.ip.as_str(), node.tcp_port, node.quic_port, node.role), ("::1", 7500, 0, DECIDES));
    }

    #[test]
    fn the_node_that_decides_is_known_where_there_are_several() {
        let deciding = roster(vec![node(1, 1), node(2, DECIDES)]).deciding().expect("one decides");
        assert_eq!(deciding.port, 2);
        assert_eq!(roster(vec![node(2, DECIDES)]).deciding(), None);
        assert_eq!(roster(vec![node(1, 1), node(2, 1)]).deciding(), None);
        assert_eq!(Roster::parse(b""), None);
    }
}
