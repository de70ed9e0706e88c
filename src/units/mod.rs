//! Text that people write (durations, quantities, address ranges) becomes checked values.

pub mod cidr;
pub mod go_duration;
pub mod quantity;
