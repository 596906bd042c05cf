"""From labelled pictures to arrays: readers, packing, augmentation."""
