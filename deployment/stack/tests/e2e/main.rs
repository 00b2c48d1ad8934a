//! The pipeline through its front doors, all in one process: the binary of `make run`. The same cases run on real Kafka
//! and PostgreSQL in `tests/stack`.

mod cases;
mod doors;
mod durability;
mod full_disk;
mod pipeline;
mod pressure;
mod readme;
