//! What can be set about QUIC, with the measurement behind each default, and how it becomes quinn's configuration.
//!
//! It refuses values that were measured to break; it knows no socket and no certificate.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// The largest packet that may be used. quinn sends ten packets per system call where the kernel cuts them (GSO), and UDP
/// takes 65,507 bytes: ten times 6,550. Above it the kernel refuses the call and quinn drops the packets silently;
/// measured 1,194 MB/s at 6,500 and 5 MB/s at 6,554.
pub const PACKET_BYTES_MAX: u16 = 6500;

/// The smallest packet that QUIC allows a path to have.
pub const PACKET_BYTES_MIN: u16 = 1200;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// Settings of an endpoint. Start from [`QuicSettings::default`]; [`QuicSettings::check`] says what cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuicSettings {
    /// Packet size to begin with where the path is unknown, bytes. Too large for the path, and nothing arrives.
    pub packet_bytes_initial: u16,
    /// Packet size to begin with towards this host itself, bytes. `lo` takes 65,536, so the largest is the best.
    pub packet_bytes_loopback: u16,
    /// Packet size up to which the path is probed, bytes. CPU per byte falls 2.2 times from 1,452 to 6,500.
    pub packet_bytes_probe_max: u16,
    /// Sockets at the address that is listened at. What comes in through one is taken by one task, and so by one core at a time;
    /// the kernel gives each session to one of them, for good. With more than one, sessions are opened from a socket of their
    /// own, on another port.
    pub sockets: u16,
    /// Receive and send buffer of each socket, bytes each. With the system's 208 KiB 0.6% of packets are lost.
    pub socket_buffer_bytes: u32,
    /// Bytes that a session may have in flight. At most what the peer's socket buffer takes: with 256 MiB the round
    /// trip rises to 14 ms from packets lost in the buffer, with 3 MiB none is lost.
    pub send_window_bytes: u32,
    /// Bytes that a lane may have in flight before its reader has taken them: what one slow reader costs.
    pub lane_window_bytes: u32,
    /// The same for all lanes of a session together. Larger than the send window, because lanes that wait for it are
    /// woken last first: at 3 MiB eight lanes of 1 MiB frames had a p99 of 76 ms, at 12 MiB 30 ms.
    pub session_window_bytes: u32,
    /// Lanes that the peer may have open at once.
    pub lanes_max: u32,
    /// Silence after which the session is over. Shorter finds the dead sooner; longer rides out pauses.
    pub idle_timeout: Duration,
    /// How often a quiet session says that it is alive. Several times within the idle timeout.
    pub keep_alive_interval: Duration,
    /// Packets after which a peer must acknowledge. 25 saves 5 to 15% of the CPU; loss is then seen a little later.
    pub packets_per_ack: u32,
}

/// What a round trip is thought to take until one was measured. A lost first packet is repeated after three of them: with
/// QUIC's own 333 ms a node that wakes from a pause, its socket full, is not reached for another second.
const INITIAL_RTT: Duration = Duration::from_millis(50);

impl Default for QuicSettings {
    fn default() -> Self {
        Self {
            packet_bytes_initial: PACKET_BYTES_MIN,
            packet_bytes_loopback: PACKET_BYTES_MAX,
            packet_bytes_probe_max: PACKET_BYTES_MAX,
            sockets: 1,
            socket_buffer_bytes: 4 * MIB,
            send_window_bytes: 3 * MIB,
            lane_window_bytes: 2 * MIB,
            session_window_bytes: 16 * MIB,
            lanes_max: 1024,
            idle_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(3),
            packets_per_ack: 25,
        }
    }
}

/// A setting that cannot be. Fix: the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A packet size is out of range.
    #[error(
        "{name} is {value}, which is not within {PACKET_BYTES_MIN} to {PACKET_BYTES_MAX}; larger packets are lost in the kernel's segmentation"
    )]
    PacketBytes {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: u16,
    },
    /// Two settings do not fit each other.
    #[error("{smaller} must not be larger than {larger}")]
    Order {
        /// The one that is too large.
        smaller: &'static str,
        /// The one that is too small.
        larger: &'static str,
    },
    /// A setting must not be zero.
    #[error("{name} must not be 0")]
    Zero {
        /// Which setting.
        name: &'static str,
    },
    /// The idle timeout is longer than QUIC can say.
    #[error("idle_timeout is longer than QUIC can express")]
    IdleTimeout,
}

impl QuicSettings {
    /// Checks every value and every relation.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (name, value) in [
            ("packet_bytes_initial", self.packet_bytes_initial),
            ("packet_bytes_loopback", self.packet_bytes_loopback),
            ("packet_bytes_probe_max", self.packet_bytes_probe_max),
        ] {
            if !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&value) {
                return Err(SettingsError::PacketBytes { name, value });
            }
        }
        for (name, value) in [
            ("sockets", self.sockets.into()),
            ("socket_buffer_bytes", self.socket_buffer_bytes),
            ("send_window_bytes", self.send_window_bytes),
            ("lane_window_bytes", self.lane_window_bytes),
            ("lanes_max", self.lanes_max),
            ("packets_per_ack", self.packets_per_ack),
        ] {
            if value == 0 {
                return Err(SettingsError::Zero { name });
            }
        }
        self.check_order()
    }

    fn check_order(&self) -> Result<(), SettingsError> {
        let order = |smaller, larger| Err(SettingsError::Order { smaller, larger });
        if self.packet_bytes_initial > self.packet_bytes_probe_max {
            return order("packet_bytes_initial", "packet_bytes_probe_max");
        }
        if self.send_window_bytes > self.socket_buffer_bytes {
            return order("send_window_bytes", "socket_buffer_bytes");
        }
        if self.lane_window_bytes > self.session_window_bytes {
            return order("lane_window_bytes", "session_window_bytes");
        }
        if self.keep_alive_interval >= self.idle_timeout {
            return order("keep_alive_interval", "idle_timeout");
        }
        IdleTimeout::try_from(self.idle_timeout).map_err(|_| SettingsError::IdleTimeout)?;
        Ok(())
    }

    /// quinn's configuration for a peer at this address.
    pub(super) fn transport(&self, peer: IpAddr) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(self.lanes_max.into())
            // Lanes have two directions; nothing else is ever opened.
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(self.lane_window_bytes.into())
            .receive_window(self.session_window_bytes.into())
            .send_window(self.send_window_bytes.into())
            .max_idle_timeout(Some(self.idle_timeout.try_into().expect("checked")))
            .keep_alive_interval(Some(self.keep_alive_interval))
            .initial_rtt(INITIAL_RTT)
            .ack_frequency_config(Some(self.ack_frequency()))
            .enable_segmentation_offload(true);
        if peer.is_loopback() {
            // The path is known: no probes.
            config.initial_mtu(self.packet_bytes_loopback).mtu_discovery_config(None);
        } else {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(self.packet_bytes_probe_max);
            config.initial_mtu(self.packet_bytes_initial).mtu_discovery_config(Some(discovery));
        }
        Arc::new(config)
    }

    fn ack_frequency(&self) -> AckFrequencyConfig {
        let mut config = AckFrequencyConfig::default();
        config.ack_eliciting_threshold(self.packets_per_ack.into());
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        assert_eq!(QuicSettings::default().check(), Ok(()));
    }

    #[test]
    fn packets_beyond_the_cliff_are_refused_with_the_setting_named() {
        let settings = QuicSettings { packet_bytes_probe_max: PACKET_BYTES_MAX + 1, ..QuicSettings::default() };
        let refused = settings.check().expect_err("too large");
        assert_eq!(refused, SettingsError::PacketBytes { name: "packet_bytes_probe_max", value: 6501 });
        assert!(10 * u32::from(PACKET_BYTES_MAX) <= 65_507);
    }

    #[test]
    fn relations_are_checked() {
        let check = |settings: QuicSettings, larger| match settings.check() {
            Err(SettingsError::Order { larger: found, .. }) => assert_eq!(found, larger),
            other => panic!("{other:?} where {larger} is too small"),
        };
        let base = QuicSettings::default;
        check(QuicSettings { send_window_bytes: 5 * MIB, ..base() }, "socket_buffer_bytes");
        check(QuicSettings { lane_window_bytes: 17 * MIB, ..base() }, "session_window_bytes");
        check(QuicSettings { keep_alive_interval: Duration::from_mins(1), ..base() }, "idle_timeout");
        check(
            QuicSettings { packet_bytes_initial: 1500, packet_bytes_probe_max: 1400, ..base() },
            "packet_bytes_probe_max",
        );
        assert_eq!(QuicSettings { lanes_max: 0, ..base() }.check(), Err(SettingsError::Zero { name: "lanes_max" }));
    }
}
