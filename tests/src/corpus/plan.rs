//! What a corpus is to hold: sizes, sharing, platforms.

/// A corpus as data.
#[derive(Clone, Debug)]
pub struct CorpusPlan {
    /// The layers, which images name by index.
    pub layers: Vec<LayerPlan>,
    /// The images.
    pub images: Vec<ImagePlan>,
}

/// One layer: the seed decides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct LayerPlan {
    /// Where its content comes from.
    pub seed: u64,
    /// About how many bytes its tar has; the gzip file is some 15 % smaller.
    pub plain_bytes: u64,
}

/// One image.
#[derive(Clone, Debug)]
pub struct ImagePlan {
    /// The repository's path in its registry.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Its layers for linux/amd64, lowest first.
    pub layers: Vec<usize>,
    /// Its layers for linux/arm64; none: the image is for linux/amd64 alone and has no index.
    pub arm64_layers: Vec<usize>,
}

const MIB: u64 = 1 << 20;

/// Sizes of the layers in 1/1000 of the whole: two bases, a runtime, and what each of eight images adds.
const SHARES: [u64; 12] = [110, 45, 125, 290, 140, 80, 60, 50, 40, 30, 20, 10];

/// Repository and layers of the images that [`CorpusPlan::of_bytes`] makes.
const IMAGES: [(&str, &[usize]); 8] = [
    ("shop/web", &[0, 2, 3]),
    ("shop/search", &[0, 2, 4]),
    ("shop/worker", &[0, 2, 5]),
    ("shop/database", &[0, 6]),
    ("shop/queue", &[1, 7]),
    ("shop/cache", &[1, 8]),
    ("platform/ingress", &[1, 9]),
    ("platform/agent", &[1, 10, 11]),
];

impl CorpusPlan {
    /// Eight images of about 1 MiB together: for tests that need shape, not size.
    pub fn tiny(seed: u64) -> Self {
        Self::of_bytes(seed, MIB)
    }

    /// One image whose one layer is about `bytes` long: for what happens in the middle of a blob.
    pub fn one_layer(seed: u64, bytes: u64) -> Self {
        let layer = LayerPlan {
            seed: layer_seed(seed, 0),
            plain_bytes: bytes / 100 * 117,
        };
        let image = ImagePlan {
            repository: "shop/big".to_owned(),
            tag: "1.4.0".to_owned(),
            layers: vec![0],
            arm64_layers: Vec::new(),
        };
        Self {
            layers: vec![layer],
            images: vec![image],
        }
    }

    /// Eight images with shared bases, about `bytes` of gzip layers for linux/amd64 together.
    pub fn of_bytes(seed: u64, bytes: u64) -> Self {
        let plain = bytes / 1000 * 117 / 100;
        let mut layers: Vec<LayerPlan> = (0..)
            .zip(SHARES)
            .map(|(index, share)| LayerPlan {
                seed: layer_seed(seed, index),
                plain_bytes: plain * share,
            })
            .collect();
        let arm64 = layers.len();
        layers.push(LayerPlan {
            seed: layer_seed(seed, 1000),
            plain_bytes: plain * 10,
        });
        let images = IMAGES
            .iter()
            .map(|(repository, of)| ImagePlan {
                repository: (*repository).to_owned(),
                tag: "1.4.0".to_owned(),
                layers: of.to_vec(),
                arm64_layers: if *repository == "platform/agent" {
                    vec![arm64]
                } else {
                    Vec::new()
                },
            })
            .collect();
        Self { layers, images }
    }
}

/// Layers of one corpus have seeds of their own; the factor keeps neighbouring seeds apart.
const fn layer_seed(seed: u64, index: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index)
}
