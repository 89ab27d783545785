"""Determines the motion of one object from its path, frame by frame. Uses numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opensora_adacache.scenes.words import BASE_SIZE, STRAIGHT, WAYS

# Minimum for each kind of motion: pixels of path over the clip, pixels of radius per frame, radians per frame.
_LEAST_TRAVEL = 4.5
_LEAST_GROWTH = 0.07
_LEAST_TURN = 0.021


@dataclass(frozen=True)
class Motion:
    """The motion of an object: kind, rate per frame in the units of ``words.RATES``, and direction if it has one."""

    kind: str
    rate: float
    direction: str | None


def read_motion(frames: np.ndarray, path: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> Motion:
    """Determine the motion of an object.

    Args:
        frames: [M] indices of the frames in which the object was seen.
        path: [M, 2] centres in pixels of a 96 pixel frame.
        radius: [M] radius in pixels of a 96 pixel frame.
        angle: [M] in radians, continuous; zeros for round shapes.
    """
    if len(frames) < 3:
        return Motion("still", 0.0, None)
    middle = path - path.mean(0)
    _, spreads, axes = np.linalg.svd(middle, full_matrices=False)
    along = middle @ axes[0]
    growth = float(np.polyfit(frames, radius, 1)[0])
    turning = float(np.polyfit(frames, angle, 1)[0])
    size, turn = abs(growth) / _LEAST_GROWTH, abs(turning) / _LEAST_TURN
    extent = float(np.ptp(along))
    travel = extent / _LEAST_TRAVEL
    # An object that grows may drift a little, and one that moves may seem to grow a little.
    if size < max(travel, 1) and (travel > 1 or (extent > 2.0 and spreads[1] < 0.2 * spreads[0])):
        return _read_travel(frames, path, spreads, float(np.median(radius)))
    # The same for one that turns.
    if max(size, turn) <= 1:
        return Motion("still", 0.0, None)
    if size >= turn:
        return Motion("grow" if growth > 0 else "shrink", abs(growth), None)
    return Motion("spin", abs(turning), "clockwise" if turning > 0 else "counterclockwise")


def _read_travel(frames: np.ndarray, path: np.ndarray, spreads: np.ndarray, radius: float) -> Motion:
    candidates = [_line(frames, path)]
    if len(frames) > 6:
        candidates.append(_bounce(frames, path))
    # A circle requires a curved path; its two extra parameters would fit any line as well.
    if len(frames) > 6 and spreads[1] > 0.04 * spreads[0]:
        candidates.append(_circle(frames, path, radius))
    errors = [error for error, _ in candidates]
    # The straight line wins unless another motion explains the path much better.
    best = int(np.argmin(errors))
    if errors[0] < max(1.5 * errors[best], 0.25):
        best = 0
    elif best == 1 and len(errors) > 2 and errors[2] < 1.2 * errors[1]:
        best = 2
    return candidates[best][1]


def _line(frames: np.ndarray, path: np.ndarray) -> tuple[float, Motion]:
    slope, start = np.polyfit(frames, path, 1)
    error = float(np.sqrt(((path - start - frames[:, None] * slope) ** 2).sum(1).mean()))
    return error, Motion("move", float(np.hypot(*slope)), nearest_way(slope, tuple(WAYS)))


def _bounce(frames: np.ndarray, path: np.ndarray) -> tuple[float, Motion]:
    """Fit a path there and back: start + velocity · (b − |t − b|), with b any frame of the clip."""
    best_error, best = np.inf, np.zeros(2)
    for turning_point in np.arange(frames[0] + 3.0, frames[-1] - 2.5, 0.25):
        slope, start = np.polyfit(turning_point - np.abs(frames - turning_point), path, 1)
        away = turning_point - np.abs(frames - turning_point)
        error = float(np.sqrt(((path - start - away[:, None] * slope) ** 2).sum(1).mean()))
        if error < best_error:
            best_error, best = error, slope
    return best_error, Motion("bounce", float(np.hypot(*best)), nearest_way(best, STRAIGHT))


def _circle(frames: np.ndarray, path: np.ndarray, least: float) -> tuple[float, Motion]:
    """Fit a circle algebraically, with a constant angular velocity.

    The centre of what is visible of an object while another passes in front of it also goes around, but on a circle
    smaller than the object, and a sampled straight path may bend a little. So the error of a circle with a radius below
    `least`, or of one that is larger than the frame, is infinite.
    """
    system = np.column_stack([2 * path, np.ones(len(path))])
    solution = np.linalg.lstsq(system, (path**2).sum(1), rcond=None)[0]
    centre = solution[:2]
    radius = float(np.sqrt(max(solution[2] + centre @ centre, 1e-6)))
    angle = np.unwrap(np.arctan2(path[:, 1] - centre[1], path[:, 0] - centre[0]))
    rate, start = np.polyfit(frames, angle, 1)
    fitted = centre + radius * np.stack([np.cos(start + rate * frames), np.sin(start + rate * frames)], 1)
    is_orbit = least <= radius <= BASE_SIZE / 2
    error = float(np.sqrt(((path - fitted) ** 2).sum(1).mean())) if is_orbit else np.inf
    return error, Motion("orbit", abs(float(rate)), "clockwise" if rate > 0 else "counterclockwise")


def nearest_way(step: np.ndarray, names: tuple[str, ...]) -> str:
    """Return the name of the direction that is nearest to a step [x, y].

    >>> nearest_way(np.array([2.0, 0.3]), STRAIGHT)
    'right'
    """
    return max(names, key=lambda name: float(np.dot(WAYS[name], step)))
