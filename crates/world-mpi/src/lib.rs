//! The processes of one run over MPI: whatever `mpirun`, `mpiexec` or `srun` started. Empty without the feature `mpi`.

#[cfg(feature = "mpi")]
mod exchange;

#[cfg(feature = "mpi")]
pub use exchange::Mpi;
