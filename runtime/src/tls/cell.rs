//! Configurations in use, swapped whole: new handshakes take the new one, live connections go
//! on with theirs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};

macro_rules! cell {
    ($(#[$doc:meta])* $name:ident, $config:ty) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            current: Arc<ArcSwap<$config>>,
        }

        impl $name {
            /// Makes a cell with its first configuration.
            pub fn new(config: Arc<$config>) -> Self {
                Self { current: Arc::new(ArcSwap::new(config)) }
            }

            /// Puts a new configuration in force for handshakes from now on.
            pub fn store(&self, config: Arc<$config>) {
                self.current.store(config);
            }

            /// Returns the configuration in force.
            pub fn load(&self) -> Arc<$config> {
                self.current.load_full()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

cell!(
    /// The configuration with which a server accepts connections.
    ServerTlsCell, ServerConfig
);
cell!(
    /// The configuration with which a client opens connections.
    ClientTlsCell, ClientConfig
);
