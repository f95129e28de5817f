//! A service's part in the image of the maps.

use crate::dataplane::Image;
use crate::plan::ServicePlan;

impl ServicePlan {
    /// Whether both are looked up alike.
    pub(crate) fn same_lookups(&self, other: &Self) -> bool {
        let lookups = |plan: &Self| (plan.key, plan.entry, plan.address);
        lookups(self) == lookups(other) && self.prefixes == other.prefixes && self.replies == other.replies
    }

    pub(crate) fn add_lookups(&self, image: &mut Image) {
        self.replace_entry(image);
        image.index.entries.extend(self.replies.iter().copied());
        if let Some((address, range)) = self.address {
            image.index.ranges.entry(address).or_default().extend(range);
        }
    }

    /// Puts the entry in the place of the one that is there.
    pub(crate) fn replace_entry(&self, image: &mut Image) {
        image.index.entries.extend(self.key.map(|key| (key, self.entry)));
        image.prefixes.extend(self.prefixes.iter().copied());
    }

    pub(crate) fn add_backends(&self, image: &mut Image) {
        image.backends.extend(self.backends.iter().copied());
        image.server_ids.extend(self.server_ids.iter().copied());
    }

    pub(crate) fn remove_backends(&self, image: &mut Image) {
        for (index, _) in &self.backends {
            image.backends.remove(index);
        }
        for (key, _) in &self.server_ids {
            image.server_ids.remove(key);
        }
    }
}

impl Image {
    /// The narrowest range comes first, and wins.
    pub(crate) fn sort_ranges(&mut self) {
        for ranges in self.index.ranges.values_mut() {
            ranges.sort_by_key(|range| (range.high - range.low, range.low, range.protocol));
        }
    }
}
