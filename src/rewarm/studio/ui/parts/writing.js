// A text as a model writes it. It comes as server-sent events to a POST, which EventSource cannot do.
export default {
  template: `<section class="rw-paper" :aria-label="heading">
    <h2 class="rw-h2" style="margin-top: 0">{{ heading }}</h2>
    <p class="rw-written" aria-live="polite"><span class="rw-quiet">{{ prompt }}</span>{{ text }}</p>
    <p v-if="note" class="rw-quiet">{{ note }}</p>
  </section>`,
  props: { heading: String, words: Object },
  data: () => ({ prompt: "", text: "", note: "" }),
  unmounted() { this.asked?.abort(); },
  methods: {
    async write(request) {
      this.asked?.abort();
      const asked = (this.asked = new AbortController());
      Object.assign(this, { prompt: request.prompt, text: "", note: this.words.waiting });
      try {
        const answer = await fetch("/v1/completions", {
          method: "POST", signal: asked.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
        });
        if (!answer.ok) {
          this.note = (await answer.json()).error?.message || this.words.failed;
          return;
        }
        await this.read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
      } catch (error) {
        if (error.name !== "AbortError") this.note = this.words.failed;
      }
    },
    async read(reader) {
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
          const told = JSON.parse(line.slice(6));
          if (told.error) this.note = told.error.message;
          else {
            this.note = "";
            this.text += told.choices?.[0]?.text ?? "";
          }
        }
      }
    },
  },
};
