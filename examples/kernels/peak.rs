//! What a device does at most.

use burn::tensor::Device;

use crate::rows::Row;

/// What the device does at most, as burn measures it: operations and bytes a second, where it tells.
pub struct Peak {
    flops: Option<f64>,
    bytes: Option<f64>,
}

impl Peak {
    /// Asks the device.
    pub fn of(device: &Device) -> Self {
        use burn::cubecl::ir::{ElemType, FloatKind};
        use burn::cubecl::throughput::MemorySpec;
        use burn::tensor::{MemoryAccess, ThroughputKey, ThroughputMode};
        let keys = [
            ThroughputMode::ComputeDirect { dtype: ElemType::Float(FloatKind::F32) },
            ThroughputMode::Memory(MemorySpec::new(MemoryAccess::Copy, 128 << 20)),
        ]
        .map(|mode| ThroughputKey { mode });
        let found = device.performance_stats(&keys);
        let value = |i: usize| found.get(i).and_then(|stat| stat.value.ok());
        Self {
            flops: value(0).map(|v| v.ops_per_s()).filter(|v| v.is_finite()),
            bytes: value(1).map(|v| v.bytes_per_s(&keys[1])).filter(|v| v.is_finite()),
        }
    }

    /// Three cells: what is achieved, the peak, and which share of it that is. What exceeds the peak shows that it is none, and has
    /// no share.
    pub fn rate(&self, row: &Row, seconds: f64) -> String {
        let (does, unit, peak) = match (row.flops > 0.0, row.bytes > 0.0) {
            (true, _) => (row.flops / seconds, "GFLOP/s", self.flops),
            (false, true) => (row.bytes / seconds, "GB/s", self.bytes),
            (false, false) => return "– | – | –".into(),
        };
        let shown = peak.map_or("–".into(), |peak| format!("{:.1} {unit}", peak * 1e-9));
        let share =
            peak.filter(|peak| does <= *peak).map_or("–".into(), |peak| format!("{:.0} %", 100.0 * does / peak));
        format!("{:.1} {unit} | {shown} | {share}", does * 1e-9)
    }
}
