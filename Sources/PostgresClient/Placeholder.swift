// Placeholder so the skeleton builds; replaced by the first commit of this target.
