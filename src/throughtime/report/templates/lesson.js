// The lesson's small network, to play with: what is chosen is computed anew, forward and back.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const play = document.getElementById("play");
  const steps = data.words.length;
  const functions = {
    sigmoid: { of: (s) => 1 / (1 + Math.exp(-s)), slope: (o) => o * (1 - o) },
    tanh: { of: Math.tanh, slope: (o) => 1 - o * o },
    relu: { of: (s) => Math.max(s, 0), slope: (o) => (o > 0 ? 1 : 0) },
  };

  const weight = (chosen, name) => data.weights[chosen.tied ? "tied" : "untied"][name];
  const input = (chosen, t) => weight(chosen, chosen.tied ? "w_t" : `w_${t}`);
  const past = (chosen, t) => chosen.scale * weight(chosen, chosen.tied ? "w^t" : `w^${t - 1}`);

  function run(chosen) {
    const f = functions[chosen.nonlinearity];
    const last = weight(chosen, `w^${steps}`);
    const outputs = [], gradients = [];
    for (let t = 1; t <= steps; t++) {
      const before = t > 1 ? outputs[t - 2] * past(chosen, t) : 0;
      outputs.push(f.of(data.x[chosen.words[t - 1]] * input(chosen, t) + before));
    }
    const prediction = outputs[steps - 1] * last;
    const error = prediction - data.y;
    gradients[steps - 1] = error * last;
    for (let t = steps; t > 1; t--) {
      gradients[t - 2] = gradients[t - 1] * f.slope(outputs[t - 1]) * past(chosen, t);
    }
    return { outputs, gradients, prediction, error, loss: (error * error) / 2 };
  }

  // As Python writes numbers: four digits that count.
  function written(number) {
    if (number === 0) return "0"; // not -0
    if (!Number.isFinite(number)) return Number.isNaN(number) ? "not a number" : number > 0 ? "infinite" : "−infinite";
    let text;
    const size = Math.floor(Math.log10(Math.abs(number)));
    if (Number.isInteger(number) && Math.abs(number) < 1e15) text = number.toLocaleString("en-US");
    else if (size >= -4 && size < 15) {
      const decimals = size === -1 || size === -2 ? 4 : Math.max(0, 3 - size);
      text = number.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    } else {
      const [base, power] = number.toExponential(3).split("e");
      text = `${base}·10${[...String(Number(power))].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("")}`;
    }
    return text.replace(/^-/, "−");
  }

  function shown(chosen) {
    const found = run(chosen);
    const texts = { "y^": found.prediction, L: found.loss, "dL/dy^": found.error };
    texts[`w^${steps}`] = weight(chosen, `w^${steps}`);
    for (let t = 1; t <= steps; t++) {
      texts[`x_${t}`] = data.x[chosen.words[t - 1]];
      texts[`w_${t}`] = input(chosen, t);
      texts[`O_${t}`] = found.outputs[t - 1];
      texts[`dL/dO_${t}`] = found.gradients[t - 1];
      if (t > 1) texts[`w^${t - 1}`] = past(chosen, t);
    }
    for (const name in texts) texts[name] = written(texts[name]);
    for (let t = 1; t <= steps; t++) texts[`word_${t}`] = chosen.words[t - 1];
    return { found, texts };
  }

  const elements = [...play.querySelectorAll("[data-at]")];
  const start = () => ({ words: [...data.words], tied: false, nonlinearity: "sigmoid", scale: 1 });

  // The script must say what Python said, in every setting Python computed, and letter by letter in the drawing.
  function agreement() {
    let gap = 0;
    for (const known of data.cases) {
      const found = run({ ...known, scale: 1 });
      const pairs = [[found.prediction, known.y_hat], [found.loss, known.loss]];
      known.outputs.forEach((value, i) => pairs.push([found.outputs[i], value]));
      known.gradients.forEach((value, i) => pairs.push([found.gradients[i], value]));
      for (const [a, b] of pairs) gap = Math.max(gap, Math.abs(a - b) / Math.max(Math.abs(b), 1e-300));
    }
    const { texts } = shown(start());
    return { gap, same: gap < 1e-12 && elements.every((element) => element.textContent === texts[element.dataset.at]) };
  }

  const { gap, same } = agreement();
  play.dataset.agrees = String(same);
  play.querySelector(".agreement").textContent = same
    ? `Checked: in ${data.cases.length} settings this script and Python compute the same numbers (largest relative difference ${written(gap)}).`
    : "This browser does not compute what Python computed; trust the numbers printed, not the controls.";

  let chosen = start();
  let held = null; // the place of the word that is to be exchanged
  const wordButtons = [...play.querySelectorAll("[data-word]")];
  const scale = play.querySelector("[name=scale]"), tied = play.querySelector("[name=tied]");
  const radios = [...play.querySelectorAll("[name=nonlinearity]")];
  const chart = play.querySelector(".bars");

  function draw() {
    const { found, texts } = shown(chosen);
    for (const element of elements) element.textContent = texts[element.dataset.at];
    wordButtons.forEach((button, i) => {
      button.textContent = chosen.words[i];
      button.setAttribute("aria-pressed", String(held === i));
    });
    play.querySelector("[name=scaled]").textContent = `× ${chosen.scale.toFixed(2)}`;
    const { top, bottom, low, high } = Object.fromEntries(Object.entries(chart.dataset).map(([k, v]) => [k, Number(v)]));
    chart.querySelectorAll("rect").forEach((bar, i) => {
      const power = Math.log10(Math.abs(found.gradients[i]));
      const share = Number.isNaN(power) ? 0 : Math.min(1, Math.max(0, (power - low) / (high - low)));
      bar.setAttribute("y", bottom - share * (bottom - top));
      bar.setAttribute("height", share * (bottom - top));
    });
    const ratio = Math.abs(found.gradients[0] / found.gradients[steps - 1]);
    play.querySelector(".told").textContent =
      `“${chosen.words.join(" ")}”: ŷ = ${texts["y^"]}, L = ${texts.L}. ` +
      (Number.isFinite(ratio) ? `The gradient at O₁ is ${written(ratio)} times that at O${"₀₁₂₃₄₅₆₇₈₉"[steps]}.` : "No gradient comes back.") +
      (found.gradients.some((gradient) => Math.abs(gradient) > 10 ** high) ? ` Bars end at 10${"⁰¹²³⁴⁵⁶⁷⁸⁹"[high]}.` : "") +
      (chosen.tied ? " The drawing's w₁ to w₄ are one weight now, and so are w¹ to w³." : "");
  }

  wordButtons.forEach((button, i) => button.addEventListener("click", () => {
    if (held === null) held = i;
    else {
      [chosen.words[held], chosen.words[i]] = [chosen.words[i], chosen.words[held]];
      held = null;
    }
    draw();
  }));
  scale.addEventListener("input", () => { chosen.scale = 10 ** Number(scale.value); draw(); });
  tied.addEventListener("change", () => { chosen.tied = tied.checked; draw(); });
  radios.forEach((radio) => radio.addEventListener("change", () => { chosen.nonlinearity = radio.value; draw(); }));
  play.querySelector("[name=again]").addEventListener("click", () => {
    chosen = start();
    held = null;
    scale.value = 0;
    tied.checked = false;
    radios.forEach((radio) => { radio.checked = radio.value === chosen.nonlinearity; });
    draw();
  });
  window.addEventListener("beforeprint", () => play.querySelector("[name=again]").click());

  play.querySelector(".controls").hidden = false;
  play.querySelector(".told").hidden = false;
  draw();
})();
