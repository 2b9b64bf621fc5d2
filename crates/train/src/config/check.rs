//! Values that can be wrong by themselves or together, before anything is built.

use ocelli_methods::ViewSettings;
use ocelli_models::BackboneArch;

use super::{ConfigError, LogConfig, RunConfig};

/// Far beyond any run, and a length of time that a clock can count.
const MOST_MINUTES: f64 = 1e9;

fn fail<T>(key: &'static str, expected: &str, found: &dyn ToString) -> Result<T, ConfigError> {
    Err(ConfigError::Value { key, expected: expected.into(), found: found.to_string() })
}

impl LogConfig {
    /// Checks what is written and how often.
    ///
    /// # Errors
    /// The first value out of range, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("log.every_steps", self.every_steps),
            ("log.keep_checkpoints", self.keep_checkpoints),
            ("log.checkpoint_every_epochs", self.checkpoint_every_epochs),
        ] {
            if value == 0 {
                return fail(key, "at least 1", &value);
            }
        }
        let minutes = self.checkpoint_every_minutes;
        if !(0.0..=MOST_MINUTES).contains(&minutes) {
            return fail("log.checkpoint_every_minutes", &format!("a number from 0 to {MOST_MINUTES}"), &minutes);
        }
        Ok(())
    }
}

impl RunConfig {
    /// Checks every value that can be wrong by itself.
    ///
    /// # Errors
    /// The first value out of range, with its key.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_counts()?;
        self.log.check()?;
        self.check_views()?;
        self.check_numbers()?;
        Ok(self.recipe().check(&self.facts(&self.backbone(), None, None))?)
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("views.global_size_px", self.views.global_size_px),
            ("views.local_size_px", self.views.local_size_px),
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
        let backbone = self.backbone();
        let cell = backbone.cell_px();
        let smallest = if self.views.local_crops > 0 { self.views.local_size_px } else { usize::MAX };
        for (key, side) in [("views.global_size_px", self.views.global_size_px), ("views.local_size_px", smallest)]
        {
            if side < cell {
                return fail(key, &format!("at least one {}, {cell} px", backbone.cell_name()), &side);
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
        self.check_extras()?;
        if self.views.std.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return fail("views.std", "three numbers above 0", &format!("{:?}", self.views.std));
        }
        Ok(())
    }

    /// What only some methods leave open: where it changes no view it is a mistake.
    fn check_extras(&self) -> Result<(), ConfigError> {
        let views = &self.views;
        let plan = |views: ViewSettings| (self.recipe().views)(&views);
        for (key, value, most, without) in [
            ("views.jitter", views.jitter, 1.0, ViewSettings { jitter: 0.0, ..views.clone() }),
            ("views.randaugment", views.randaugment, 10.0, ViewSettings { randaugment: 0.0, ..views.clone() }),
            ("views.erase", views.erase, 1.0, ViewSettings { erase: 0.0, ..views.clone() }),
        ] {
            if !(0.0..=most).contains(&value) {
                return fail(key, &format!("a number from 0 to {most}"), &value);
            }
            if value > 0.0 && plan(views.clone()) == plan(without) {
                let expected = format!("0: the views of {} do not leave it open", self.recipe().name);
                return fail(key, &expected, &value);
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        self.optim.check()?;
        for (key, value) in [
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
        if self.loader.max_pixels == 0 {
            return fail("loader.max_pixels", "at least 1", &self.loader.max_pixels);
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return fail("drop_path", "at least 0 and below 1", &self.drop_path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_checked() {
        LogConfig::default().check().unwrap();
        for minutes in [1e300, f64::INFINITY, f64::NAN, -1.0] {
            let log = LogConfig { checkpoint_every_minutes: minutes, ..LogConfig::default() };
            let message = log.check().unwrap_err().to_string();
            assert!(message.starts_with("log.checkpoint_every_minutes: expected"), "{message}");
        }
        let most = std::time::Duration::try_from_secs_f64(60.0 * MOST_MINUTES);
        assert!(most.is_ok(), "a clock can count it");
        let log = LogConfig { every_steps: 0, ..LogConfig::default() };
        assert!(log.check().unwrap_err().to_string().starts_with("log.every_steps: expected at least 1"));
    }
}
