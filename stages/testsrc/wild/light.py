"""Light and weather of a wild world: it drifts, flickers and goes out; haze, rain, noise of the sensor."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]  # (H, W, 3) RGB, 0 to 255


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """What stands between the scene and the picture; all of it a function of the time in seconds."""

    gain: float  # mean brightness
    warmth: NDArray[np.float64]  # (3,) amplitude of each channel's drift
    drift: tuple[float, float]  # period and phase of the drift
    flicker: tuple[float, float]  # amplitude and Hz
    outages: NDArray[np.float64]  # (K, 2) begin and end, within ``period``, of times with little light
    dark: float  # brightness of these times, as a share
    period: float
    haze: float  # share of white
    rain: int  # streaks in a picture of 256 x 256
    noise: float  # standard deviation
    seed: int

    def shine(self, picture: Picture, seconds: float) -> None:
        """Change the picture's brightness and colours, and lay haze over it, in place."""
        wave = np.sin(2 * np.pi * seconds / self.drift[0] + self.drift[1])
        gain = self.gain * (1 + self.warmth * wave)
        gain *= 1 + self.flicker[0] * np.sin(2 * np.pi * self.flicker[1] * seconds)
        within = seconds % self.period
        fade = 0.15  # seconds in which the light goes out
        for begin, end in self.outages:
            share = np.clip(min(within - begin, end - within) / fade, 0, 1)
            gain *= 1 - (1 - self.dark) * share
        picture *= (gain * (1 - self.haze)).astype(np.float32)
        picture += 205 * self.haze * float(gain.mean())

    def wet(self, picture: Picture, index: int) -> None:
        """Draw rain and the sensor's noise into frame ``index``, in place."""
        height, width = picture.shape[:2]
        rng = np.random.default_rng([self.seed, index])
        if self.rain:
            streaks = np.zeros((height, width), np.uint8)
            length = height * 0.06
            for x, y in rng.uniform(0, 1, (round(self.rain * width / height), 2)) * (width, height):
                cv2.line(streaks, (int(x), int(y)), (int(x + length * 0.15), int(y + length)), 255, 1, cv2.LINE_AA)
            share = (streaks * np.float32(0.35 / 255))[..., None]
            picture += (np.float32(215) - picture) * share
        if self.noise:
            side = 64
            grain = rng.standard_normal((height // 2 + side, width // 2 + side), np.float32) * self.noise
            picture += cv2.resize(grain[: height // 2, : width // 2], (width, height), interpolation=cv2.INTER_NEAREST)[
                ..., None
            ] * np.float32(0.6)
            picture += rng.standard_normal((height, width, 1), np.float32) * np.float32(self.noise)


def sample_light(rng: np.random.Generator) -> Light:
    """Light and weather with some of all this, each with its own probability."""
    period = 24.0
    outages = np.zeros((0, 2))
    if rng.random() < 0.3:
        begins = np.array([rng.uniform(2, 8), rng.uniform(13, 19)])
        outages = np.stack([begins, begins + rng.uniform(0.6, 2.5, 2)], 1)
    return Light(
        rng.uniform(0.55, 1.15),
        rng.uniform(0.05, 0.25) * rng.uniform(0.6, 1.2, 3) if rng.random() < 0.6 else np.zeros(3),
        (rng.uniform(5, 20), rng.uniform(0, 6.28)),
        (rng.uniform(0.02, 0.1) if rng.random() < 0.3 else 0.0, rng.uniform(3, 14)),
        outages,
        rng.uniform(0.15, 0.4),
        period,
        rng.uniform(0.1, 0.45) if rng.random() < 0.25 else 0.0,
        int(rng.integers(20, 90)) if rng.random() < 0.2 else 0,
        rng.uniform(2, 11) if rng.random() < 0.5 else 0.0,
        int(rng.integers(1 << 30)),
    )
