//! The forward protocol, as a receiver: framing, checking and acknowledging without decoding a record.
//!
//! [`decoder`] cuts a connection's bytes into messages ([`skip`] finds their ends), [`message`] takes them
//! apart, [`entries`] checks the events, [`sink`] gathers them into batches with the acknowledgements that
//! are owed for them. [`server`] is many connections in one thread, [`python`] what Python sees of it all.

pub mod decoder;
pub mod entries;
pub mod inflate;
pub mod message;
pub mod python;
pub mod server;
pub mod sink;
pub mod skip;
