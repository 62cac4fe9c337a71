//! The bad runs behind the rules of the protocol, by name.
