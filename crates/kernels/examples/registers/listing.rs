//! What a listing of AMD's machine code says about its main loop.
//!
//! A listing is a block's label (`BB7:`), then an instruction a line: the mnemonic, its operands, and after a semicolon the
//! encoding. A branch to a label at or above it closes a loop.

use std::collections::HashMap;

/// What is counted in a loop: its own blocks, without those of loops inside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Multiplications and additions of floating-point numbers in one, for each lane.
    pub multiply_adds: usize,
    /// Instructions of those.
    pub multiplying: usize,
    /// Instructions of the vector unit, those included.
    pub vector: usize,
    /// Numbers of 32 bits that a lane loads from workgroup memory.
    pub shared_words: usize,
    /// Numbers of 32 bits that a lane loads from memory.
    pub memory_words: usize,
    /// Instructions that wait for a load or a store.
    pub waits: usize,
    /// Barriers.
    pub barriers: usize,
}

impl Counts {
    /// The share of vector instructions that multiply and add.
    pub fn share(&self) -> f64 {
        self.multiplying as f64 / self.vector.max(1) as f64
    }

    fn add(&mut self, instruction: &str) {
        // RDNA 3 issues two in one: `v_dual_fmac_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5`.
        for part in instruction.split("::") {
            let name = part.split_whitespace().next().unwrap_or_default();
            if name.starts_with("v_") {
                self.vector += 1;
                let each = multiply_adds(name);
                self.multiply_adds += each;
                self.multiplying += usize::from(each > 0);
            } else if let Some(load) = name.strip_prefix("ds_read").or_else(|| name.strip_prefix("ds_load")) {
                self.shared_words += words(load);
            } else if ["buffer_load", "global_load", "flat_load"].iter().any(|load| name.starts_with(load)) {
                self.memory_words += words(name);
            } else if name.starts_with("s_wait") && !name.starts_with("s_wait_idle") {
                self.waits += 1;
            } else if name.starts_with("s_barrier") {
                self.barriers += 1;
            }
        }
    }
}

/// Multiply-adds of one instruction, for each lane.
fn multiply_adds(name: &str) -> usize {
    const NAMES: [&str; 8] = ["fma_", "fmac_", "fmamk_", "fmaak_", "mac_", "mad_", "madmk_", "madak_"];
    let (each, rest) = match (name.strip_prefix("v_pk_"), name.strip_prefix("v_dual_")) {
        (Some(rest), _) => (2, rest),
        (_, Some(rest)) => (1, rest),
        _ => (1, name.strip_prefix("v_").unwrap_or_default()),
    };
    // Whole numbers have a `v_mad_u32_u24`.
    let floating = ["f16", "f32", "f64"].iter().any(|kind| rest.contains(kind));
    if floating && NAMES.iter().any(|n| rest.starts_with(n)) { each } else { 0 }
}

/// Numbers of 32 bits, rounded up, that a load with this name gives a lane.
fn words(name: &str) -> usize {
    let each = match name {
        _ if name.contains("128") || name.contains("x4") => 4,
        _ if name.contains("96") || name.contains("x3") => 3,
        _ if name.contains("b64") || name.contains("x2") => 2,
        _ => 1,
    };
    // Two addresses in one: `ds_read2_b32`, `ds_read2st64_b64`, `ds_load_2addr_b32`.
    if name.starts_with('2') || name.contains("2addr") { 2 * each } else { each }
}

/// Lines of the loop's first and last instruction.
type Span = (usize, usize);

/// The loop that multiplies most; of several, or where none does, the one with most vector instructions. Nothing where there is no
/// loop.
pub fn main_loop(listing: &str) -> Option<Counts> {
    let lines: Vec<&str> = listing.lines().map(|line| line.split(';').next().unwrap_or_default().trim()).collect();
    let labels: HashMap<&str, usize> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((line.strip_suffix(':')?, at))).collect();
    let mut loops: Vec<Span> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let mut parts = line.split_whitespace();
        let branches =
            parts.next().is_some_and(|name| name.starts_with("s_branch") || name.starts_with("s_cbranch"));
        let Some(to) = parts.next().filter(|_| branches).and_then(|label| labels.get(label)) else { continue };
        if *to > at {
            continue;
        }
        // A loop with several ways back is one loop.
        match loops.iter_mut().find(|(first, _)| first == to) {
            Some((_, last)) => *last = at,
            None => loops.push((*to, at)),
        }
    }
    let length = |(first, last): &Span| last - first;
    let innermost = |at: usize| {
        let around = loops.iter().enumerate().filter(|(_, (first, last))| (*first..=*last).contains(&at));
        around.min_by_key(|(_, span)| length(span)).map(|(i, _)| i)
    };
    let mut counts = vec![Counts::default(); loops.len()];
    for (at, line) in lines.iter().enumerate() {
        if let Some(i) = innermost(at) {
            counts[i].add(line);
        }
    }
    counts.into_iter().max_by_key(|own| (own.multiply_adds, own.vector))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A product: an outer loop that fetches, an inner one that multiplies.
    const NESTED: &str = "\
BB0:
	s_mov_b32 s0, 0                                             ; be800380
	v_fma_f32 v9, v8, v7, v9                                    ; d54b0009
BB1:
	buffer_load_dwordx4 v[0:3], v9, s[4:7], 0 offen             ; e0381000 80010009
	s_waitcnt vmcnt(0)                                          ; bf8c3f70
	ds_write_b128 v10, v[0:3]                                   ; db7c0000 0000000a
	s_barrier                                                   ; bf8a0000
BB2:
	ds_read_b128 v[0:3], v10                                    ; dbfc0000 0000000a
	ds_read2_b32 v[4:5], v11 offset1:1                          ; d8dc0100 0400000b
	s_waitcnt lgkmcnt(0)                                        ; bf8cc07f
	v_fmac_f32_e32 v20, v0, v4                                  ; 5628090
	v_fma_f32 v21, v1, v4, v21                                  ; d54b0015
	v_mad_u32_u24 v30, v31, v32, v33                            ; d543001e
	v_add_f32_e32 v22, v2, v5                                   ; 062c0b02
	s_cmp_lt_u32 s0, 16                                         ; bf0a9000
	s_cbranch_scc1 BB2                                          ; bf85fff5
BB3:
	v_add_nc_u32_e32 v9, 16, v9                                 ; 4a121290
	s_cbranch_vccnz BB5                                         ; bf870001
BB4:
	s_branch BB1                                                ; bf82ffe0
BB5:
	v_fma_f32 v9, v8, v7, v9                                    ; d54b0009
	s_endpgm                                                    ; bf810000
";

    #[test]
    fn the_inner_loop_counts_alone() {
        let expected = Counts {
            multiply_adds: 2,
            multiplying: 2,
            vector: 4,
            shared_words: 6,
            memory_words: 0,
            waits: 1,
            barriers: 0,
        };
        assert_eq!(main_loop(NESTED), Some(expected));
    }

    #[test]
    fn an_outer_loop_counts_without_the_inner_one() {
        // Without its multiplications the inner loop still has more vector instructions than the outer one.
        let adds = NESTED.replace("v_fma_f32", "v_add_f32").replace("v_fmac_f32_e32", "v_add_f32_e32");
        assert_eq!(main_loop(&adds).map(|c| (c.multiply_adds, c.vector, c.barriers)), Some((0, 4, 0)));
        let less = adds.replace("v_add_f32", "s_add_f32").replace("v_mad_u32_u24", "s_mad");
        let outer = main_loop(&less).unwrap();
        assert_eq!((outer.vector, outer.memory_words, outer.waits, outer.barriers), (1, 4, 1, 1));
    }

    #[test]
    fn several_ways_back_are_one_loop() {
        let listing = "\
BB0:
	v_mov_b32_e32 v0, 0
BB1:
	v_fmac_f32_e32 v0, v1, v2
	s_cbranch_scc0 BB1
	v_fmac_f32_e32 v0, v1, v2
	s_branch BB1
";
        assert_eq!(main_loop(listing).map(|c| c.multiply_adds), Some(2));
    }

    #[test]
    fn no_way_back_is_no_loop() {
        assert_eq!(main_loop("BB0:\n\ts_cbranch_execz BB1\n\tv_fma_f32 v0, v0, v0, v0\nBB1:\n\ts_endpgm\n"), None);
        assert_eq!(main_loop(""), None);
    }

    #[test]
    fn names_of_all_generations_are_known() {
        for (name, expected) in [
            ("v_fma_f32", 1),
            ("v_mac_f32_e32", 1),
            ("v_fmac_f32_e64", 1),
            ("v_fmaak_f32", 1),
            ("v_madmk_f32", 1),
            ("v_mad_f32", 1),
            ("v_pk_fma_f32", 2),
            ("v_pk_fma_f16", 2),
            ("v_dual_fmac_f32", 1),
            ("v_mad_u64_u32", 0),
            ("v_pk_mad_u16", 0),
            ("v_mul_f32_e32", 0),
            ("v_cvt_f32_u32_e32", 0),
        ] {
            assert_eq!(multiply_adds(name), expected, "{name}");
        }
        let of = |text: &str| {
            let mut counts = Counts::default();
            counts.add(text);
            counts
        };
        for (name, expected) in [
            ("ds_read_b32 v0, v1", 1),
            ("ds_read_b64 v[0:1], v1", 2),
            ("ds_read_b96 v[0:2], v1", 3),
            ("ds_read_b128 v[0:3], v1", 4),
            ("ds_read2_b64 v[0:3], v1", 4),
            ("ds_read2st64_b32 v[0:1], v1", 2),
            ("ds_load_2addr_b32 v[0:1], v1", 2),
            ("ds_load_b128 v[0:3], v1", 4),
            ("ds_write_b128 v1, v[0:3]", 0),
        ] {
            assert_eq!(of(name).shared_words, expected, "{name}");
        }
        for (name, expected) in [
            ("buffer_load_dword v0, v1, s[0:3], 0", 1),
            ("buffer_load_dwordx2 v[0:1], v2, s[0:3], 0", 2),
            ("buffer_load_b128 v[0:3], v2, s[0:3], 0", 4),
            ("global_load_dwordx3 v[0:2], v[4:5], off", 3),
            ("buffer_load_ubyte v0, v1, s[0:3], 0", 1),
            ("buffer_store_dwordx4 v[0:3], v2, s[0:3], 0", 0),
            ("s_load_dwordx4 s[0:3], s[4:5], 0x0", 0),
        ] {
            assert_eq!(of(name).memory_words, expected, "{name}");
        }
        let pair = of("v_dual_fmac_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5");
        assert_eq!((pair.multiply_adds, pair.vector), (1, 2));
        let waits = ["s_waitcnt vmcnt(0)", "s_waitcnt_vscnt null, 0x0", "s_wait_loadcnt 0x0", "s_wait_idle"];
        assert_eq!(waits.map(|text| of(text).waits), [1, 1, 1, 0]);
    }
}
