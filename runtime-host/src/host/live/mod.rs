//! Changing a program while it runs (DESIGN §9): from a request of the supervisor to the tick it takes effect in, and back.
//!
//! The control thread prepares: [`desk`] takes requests and gives answers, [`prepare`] builds engines and checks plans,
//! [`layouts`] knows the revisions that run or may run soon and resolves names against them. What is prepared goes to the
//! tick thread as a [`handover::Command`] and comes back as a [`handover::Outcome`], through wait-free queues. The tick thread
//! carries out: [`stage`] holds what runs, what waits to run and what may come back; `commit` lets changes take effect at the
//! start of a tick, `trial` takes them back, [`ramps`] moves values, [`snapshot`] keeps the memory of a tick's start. Control
//! wires go by the same two threads: [`circuit`] finds their ends, [`wires`] carries values.
//!
//! Nothing is decided here: which plan a change has, and whether it may happen, is the supervisor's business. Everything that
//! happens on the tick thread depends on ticks alone, so that the same requests in the same ticks give the same output. The
//! one exception, a tick that takes too long, is reported with its tick and never decides in an offline host
//! ([`deadline`]).

pub mod checkpoint;
pub mod circuit;
mod commit;
pub mod deadline;
pub mod desk;
pub mod handover;
pub mod layouts;
pub mod prepare;
pub mod ramps;
pub mod recall;
pub mod snapshot;
pub mod stage;
mod trial;
pub mod wires;
