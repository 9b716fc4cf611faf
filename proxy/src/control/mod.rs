//! Where configuration comes from: the newest good snapshot is put in force and acknowledged,
//! a bad one refused with its reason. What is in force stays so when the source is gone.

mod asker;
mod drive;
mod static_file;
mod subscribe;

pub(crate) use asker::KeyAsker;
pub(crate) use drive::drive;
