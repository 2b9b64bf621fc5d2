//! Values that can be wrong by themselves or together, before anything is built.

use ocelli_methods::MethodError;

use super::{BackboneArch, ConfigError, RunConfig};

fn fail<T>(key: &'static str, expected: &str, found: &dyn ToString) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key, expected: expected.into(), found: found.to_string() })
}

impl RunConfig {
    /// Checks every value that can be wrong by itself.
    ///
    /// # Errors
    /// The first value out of range, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_counts()?;
        self.check_views()?;
        self.check_numbers()?;
        if self.method.has_queue() { self.check_contrast() } else { Ok(()) }
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("views.global_size_px", self.views.global_size_px),
            ("views.local_size_px", self.views.local_size_px),
            ("log.every_steps", self.log.every_steps),
            ("log.keep_checkpoints", self.log.keep_checkpoints),
            ("log.checkpoint_every_epochs", self.log.checkpoint_every_epochs),
            ("eval.batch_size", self.eval.batch_size),
            ("loader.prefetch", self.loader.prefetch),
            ("resnet.norm_groups", self.resnet.norm_groups),
        ] {
            if value == 0 {
                return fail(key, "at least 1", &value);
            }
        }
        // Far beyond use, and small enough that no product of them overflows or fills the memory before a step is done.
        for (key, value, most) in [
            ("epochs", self.epochs, 1_000_000),
            ("batch_size", self.batch_size, 1_000_000),
            ("views.global_size_px", self.views.global_size_px, 4096),
            ("views.local_size_px", self.views.local_size_px, 4096),
            ("views.local_crops", self.views.local_crops, 1000),
            ("dino.head.out_dim", self.dino.head.out_dim, 100_000_000),
            ("moco.queue", self.moco.queue, 100_000_000),
            ("moco.out_dim", self.moco.out_dim, 1_000_000),
            ("moco.hidden_dim", self.moco.hidden_dim, 1_000_000),
        ] {
            if value > most {
                return fail(key, &format!("at most {most}"), &value);
            }
        }
        if !self.batch_size.is_multiple_of(self.accumulate) {
            let found = format!("{} of {}", self.accumulate, self.batch_size);
            return fail("accumulate", "a divisor of batch_size", &found);
        }
        let part = self.batch_size / self.accumulate;
        if matches!(self.arch, BackboneArch::ResNet(_)) && !part.is_multiple_of(self.resnet.norm_groups) {
            let found = format!("{} of {part}", self.resnet.norm_groups);
            return fail("resnet.norm_groups", "a divisor of batch_size / accumulate", &found);
        }
        Ok(())
    }

    fn check_views(&self) -> Result<(), ConfigError> {
        let cell = self.cell_px();
        let smallest = if self.views.local_crops > 0 { self.views.local_size_px } else { usize::MAX };
        for (key, side) in [("views.global_size_px", self.views.global_size_px), ("views.local_size_px", smallest)]
        {
            if side < cell {
                let what = if matches!(self.arch, BackboneArch::Vit(_)) { "patch" } else { "cell" };
                return fail(key, &format!("at least one {what}, {cell} px"), &side);
            }
        }
        for (key, [low, high]) in
            [("views.global_scale", self.views.global_scale), ("views.local_scale", self.views.local_scale)]
        {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                let found = format!("[{low}, {high}]");
                return fail(key, "two shares of the area, 0 < low <= high <= 1", &found);
            }
        }
        if self.views.std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return fail("views.std", "three numbers above 0", &format!("{:?}", self.views.std));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        match self.optim.check() {
            Err(MethodError::Value { key, expected, found }) => fail(key, expected, &found)?,
            other => other
                .map_err(|e| ConfigError::Toml { source_name: "configuration".into(), reason: e.to_string() })?,
        }
        for (key, value) in [
            ("log.checkpoint_every_minutes", self.log.checkpoint_every_minutes),
            ("watch.patience_epochs", self.watch.patience_epochs),
            ("views.blur_sigma_max", f64::from(self.views.blur_sigma_max)),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(key, "a number of at least 0", &value);
            }
        }
        if !(0.0..=1.0).contains(&self.loader.max_bad_fraction) {
            return fail("loader.max_bad_fraction", "a share from 0 to 1", &self.loader.max_bad_fraction);
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return fail("drop_path", "at least 0 and below 1", &self.drop_path);
        }
        Ok(())
    }

    /// What MoCo v2 and DenseCL want beside their own constants, which they check themselves.
    fn check_contrast(&self) -> Result<(), ConfigError> {
        if let BackboneArch::Vit(arch) = &self.arch {
            let expected = format!("a ResNet for {}, such as resnet-50", self.method);
            return fail("arch", &expected, &arch);
        }
        if self.views.local_crops > 0 {
            let expected = format!("0: {} compares two views of each image", self.method);
            return fail("views.local_crops", &expected, &self.views.local_crops);
        }
        if self.moco.queue == 0 || !self.moco.queue.is_multiple_of(self.batch_size) {
            let expected = format!("a multiple of batch_size, {}", self.batch_size);
            return fail("moco.queue", &expected, &self.moco.queue);
        }
        Ok(())
    }
}
