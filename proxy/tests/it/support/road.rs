//! A road between two proxies on which connections are cut, held up or slowed down, by a seed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use weft_runtime::net::{self, TcpStream};

use super::pair::{LIMIT, localhost};

/// What the road does to whoever is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything passes.
    Clear,
    /// Nothing passes, and nobody is told: a partition, or a peer that is frozen.
    Frozen,
    /// Connections are reset, new ones at once: a peer that was killed.
    Killed,
    /// Each connection is reset after some bytes.
    Cuts,
    /// Each connection ends, in good order for TCP, after some bytes.
    Ends,
    /// A few bytes at a time.
    Trickle,
}

impl Weather {
    pub(crate) const BAD: [Self; 5] =
        [Self::Frozen, Self::Killed, Self::Cuts, Self::Ends, Self::Trickle];
}

/// The same draws in every run with the same seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Draws(Arc<AtomicU64>);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&self, end: usize) -> usize {
        let step = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(step, Ordering::SeqCst).wrapping_add(step);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 16).expect("48 bits") % end.max(1)
    }
}

/// A road that leads to one address.
pub(crate) struct Road {
    pub(crate) address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Road {
    pub(crate) async fn to(there: SocketAddr, draws: Draws) -> Self {
        let listener = net::bind_tcp(localhost(0)).await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (weather, forecast) = watch::channel(Weather::Clear);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(travel(near, there, forecast.clone(), draws.clone()));
            }
        });
        Self { address, weather }
    }

    pub(crate) fn turns(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

/// How the road ended a connection.
enum Ended {
    /// Reset towards both.
    Reset,
    /// Closed towards both.
    Closed,
}

async fn travel(
    mut near: TcpStream,
    there: SocketAddr,
    forecast: watch::Receiver<Weather>,
    draws: Draws,
) {
    let Ok(mut far) = net::connect_tcp(there, LIMIT).await else { return };
    let ended = {
        let (near_in, near_out) = near.split();
        let (far_in, far_out) = far.split();
        tokio::try_join!(
            carry(near_in, far_out, forecast.clone(), &draws),
            carry(far_in, near_out, forecast, &draws),
        )
    };
    if let Err(Ended::Reset) = ended {
        // An end that cannot be told any more is one as well.
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// Carries one direction to its end.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut forecast: watch::Receiver<Weather>,
    draws: &Draws,
) -> Result<(), Ended> {
    let mut buffer = vec![0; 16 << 10];
    // Bytes until bad weather of that kind strikes.
    let mut left = draws.below(40_000);
    loop {
        let weather = *forecast.borrow_and_update();
        let room = match weather {
            Weather::Killed => return Err(Ended::Reset),
            Weather::Cuts if left == 0 => return Err(Ended::Reset),
            Weather::Ends if left == 0 => return Err(Ended::Closed),
            Weather::Frozen => {
                forecast.changed().await.map_err(|_| Ended::Closed)?;
                continue;
            }
            Weather::Trickle => 1 + draws.below(300),
            Weather::Cuts | Weather::Ends => left.min(buffer.len()),
            Weather::Clear => buffer.len(),
        };
        let read = tokio::select! {
            changed = forecast.changed() => {
                changed.map_err(|_| Ended::Closed)?;
                continue;
            }
            read = from.read(&mut buffer[..room]) => read.map_err(|_| Ended::Reset)?,
        };
        if read == 0 {
            return to.shutdown().await.map_err(|_| Ended::Reset);
        }
        if weather == Weather::Cuts || weather == Weather::Ends {
            left -= read;
        }
        to.write_all(&buffer[..read]).await.map_err(|_| Ended::Reset)?;
    }
}
