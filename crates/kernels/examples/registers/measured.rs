//! What was measured of a kernel, as it travels from the process that compiles to the one that judges.

use crate::listing::Counts;

/// A kernel on one family of cards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// The expansion's name.
    pub name: String,
    /// Vector registers of a lane.
    pub registers: u64,
    /// Registers that did not fit.
    pub spills: u64,
    /// Waves that one SIMD unit keeps in flight, as the driver counts: of 32 lanes on RDNA, where a subgroup of 64 is two; of 64
    /// on GCN.
    pub waves: u64,
    /// Bytes of workgroup memory.
    pub shared: u64,
    /// Bytes of machine code.
    pub code: u64,
    /// Its main loop, where it has one.
    pub main_loop: Option<Counts>,
}

impl Measured {
    /// The line that `parse` reads.
    pub fn line(&self) -> String {
        let Self { name, registers, spills, waves, shared, code, main_loop } = self;
        let counts = main_loop.map_or_else(String::new, |c| {
            [c.multiply_adds, c.multiplying, c.vector, c.shared_words, c.memory_words, c.waits, c.barriers]
                .map(|n| format!("\t{n}"))
                .concat()
        });
        format!("{name}\t{registers}\t{spills}\t{waves}\t{shared}\t{code}{counts}")
    }

    /// Reads a line of `line`.
    pub fn parse(line: &str) -> Result<Self, String> {
        let wrong = || format!("expected a kernel's name and 5 or 12 numbers, found \"{line}\"");
        let mut fields = line.split('\t');
        let name = fields.next().unwrap_or_default().to_owned();
        let numbers: Vec<u64> =
            fields.map(str::parse).collect::<Result<_, _>>().map_err(|e| format!("{}: {e}", wrong()))?;
        let (&[registers, spills, waves, shared, code], counts) =
            numbers.split_first_chunk::<5>().ok_or_else(wrong)?;
        let main_loop = match counts.iter().map(|n| *n as usize).collect::<Vec<_>>()[..] {
            [] => None,
            [multiply_adds, multiplying, vector, shared_words, memory_words, waits, barriers] => {
                Some(Counts { multiply_adds, multiplying, vector, shared_words, memory_words, waits, barriers })
            }
            _ => return Err(wrong()),
        };
        Ok(Self { name, registers, spills, waves, shared, code, main_loop })
    }
}

/// All kernels on one family of cards.
#[derive(Debug, Clone, Default)]
pub struct Family {
    /// What `RADV_FORCE_FAMILY` calls it.
    pub name: &'static str,
    /// The driver's version, `Mesa 22.3.6`.
    pub version: String,
    /// In the order of the list.
    pub kernels: Vec<Measured>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let counts =
            Counts { multiply_adds: 64, multiplying: 32, vector: 40, shared_words: 16, ..Counts::default() };
        for main_loop in [None, Some(counts)] {
            let name = "gelu group=64 vec=on".to_owned();
            let one = Measured { name, registers: 96, spills: 2, waves: 8, shared: 9216, code: 28_100, main_loop };
            assert_eq!(Measured::parse(&one.line()), Ok(one));
        }
        for wrong in ["", "gelu\t1\t2", "gelu\t1\t2\t3\t4\tx", "gelu\t1\t2\t3\t4\t5\t6"] {
            assert!(Measured::parse(wrong).unwrap_err().contains("expected a kernel's name"), "{wrong}");
        }
    }
}
