//! What a hostile job tries, with a job's user and real processes.

mod plain_user;
