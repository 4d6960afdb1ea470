//! Connections into pods: exec, attach and port-forward. What the client speaks (WebSocket with one of its sub-protocols, or
//! SPDY) ends here; to the node it goes on as one HTTP/2 request per session or per forwarded connection, over the tunnel.
//!
//! Reading order: `upgrade` (what the client asks for), `session` (who may go on for how long), `websocket` and `spdy` (the
//! two transports), `node` (the other end), `exec` and `forward` (what connects them).

pub mod exec;
pub mod forward;
pub mod node;
pub mod session;
pub mod spdy;
pub mod upgrade;
pub mod websocket;
