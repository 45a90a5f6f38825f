"use strict";
(() => {
  // All else is done by the stylesheet, so that it also works where scripts are not allowed.
  const slider = document.getElementById("cut");
  const section = document.querySelector(".alignment");
  const move = () => section.style.setProperty("--cut", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
})();
