// Plays the two videos of a stage in step. The stage is rendered again whenever its pair changes, so each is set up once.
(() => {
  const TOLERANCE = 0.04; // seconds between the two videos
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const ready = new WeakSet();

  function setUp(stage) {
    ready.add(stage);
    const [first, second] = stage.querySelectorAll("video");
    const toggle = stage.querySelector(".oa-toggle"), scrubber = stage.querySelector(".oa-scrubber"), clock = stage.querySelector(".oa-clock");
    const videos = [first, second];
    let playing = !calm, scrubbing = false;

    const play = () => videos.forEach(video => video.play().catch(() => {}));
    const seek = time => videos.forEach(video => { video.currentTime = Math.min(time, video.duration || 0); });
    toggle.addEventListener("click", () => {
      playing = !playing;
      if (playing) play(); else { videos.forEach(video => video.pause()); seek(first.currentTime); }
    });
    scrubber.addEventListener("input", () => { scrubbing = true; seek(scrubber.value * (first.duration || 0)); });
    scrubber.addEventListener("change", () => { scrubbing = false; });
    first.addEventListener("ended", () => { seek(0); if (playing) play(); });

    const tick = () => {
      if (!stage.isConnected) return;
      toggle.textContent = playing ? "Pause" : "Play";
      if (first.duration) {
        if (playing && videos.every(video => video.readyState >= 3) && first.paused && !first.ended) play();
        if (!second.seeking && Math.abs(second.currentTime - first.currentTime) > TOLERANCE) second.currentTime = Math.min(first.currentTime, second.duration || 0);
        if (!scrubbing) scrubber.value = first.currentTime / first.duration;
        clock.textContent = `${first.currentTime.toFixed(2)} / ${first.duration.toFixed(2)} s`;
      }
      requestAnimationFrame(tick);
    };
    tick();
  }

  const look = () => document.querySelectorAll(".oa-stage[data-finished]").forEach(stage => { if (!ready.has(stage)) setUp(stage); });
  // On a narrow page the stage lies below the form: bring it into view when a pair begins.
  let making = false;
  const follow = () => {
    const stage = document.querySelector(".oa-stage");
    const now = Boolean(stage && stage.matches(".waiting, .making"));
    if (now && !making && stage.getBoundingClientRect().top > innerHeight * 0.8) stage.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
    making = now;
  };
  new MutationObserver(() => { look(); follow(); }).observe(document.documentElement, { childList: true, subtree: true });
})();
