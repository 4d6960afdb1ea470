//! Scripts: a line is a time and what happens; beside it stand the actions and events that must follow, and the status
//! that users see.

mod script;

mod anything;
mod catching_up;
mod probes;
mod restarts;
mod starting;
mod stopping;
