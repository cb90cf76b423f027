"""English."""

WORDS: dict[str, str] = {
    # the frame around every page
    "nav.overview": "Overview",
    "nav.data": "Data Hub",
    "nav.pipelines": "Pipelines",
    "nav.runs": "Runs",
    "nav.compare": "Compare",
    "nav.models": "Model Hub",
    "nav.playground": "Playground",
    "nav.settings": "Settings",
    "nav.menu": "Menu",
    "nav.theme": "Light or dark",
    "nav.language": "Language",
    "nav.sign_out": "Sign out",
    "command.title": "The same in the terminal",
    "command.copy": "Copy",
    "command.copied": "Copied",
    "error.title": "That did not work",
    "error.inside": "Something went wrong inside Rewarm; it is in the server's log.",
    "error.signed_out": "You are signed out. Sign in again: nothing is lost.",
    "error.not_found": "There is no such page.",
    "button.cancel": "Cancel",
    "button.close": "Close",
    "sign_in.title": "Sign in",
    "sign_in.name": "Name",
    "sign_in.password": "Password",
    "sign_in.submit": "Sign in",
    "sign_in.link_text": "This link signs you in once.",
    "sign_in.link_submit": "Sign in with this link",
    "sign_in.why": "No account yet? Whoever runs this Studio makes a link: rewarm studio link NAME",
    "sign_in.failed": "The Studio does not answer. Is it still running?",
    # states of a run
    "state.queued": "waiting",
    "state.running": "running",
    "state.paused": "paused",
    "state.stopping": "stopping",
    "state.stopped": "stopped",
    "state.succeeded": "succeeded",
    "state.failed": "failed",
    "state.lost": "lost",
    # charts
    "chart.smoothing": "Smoothing",
    "chart.log": "Log scale",
    "chart.reset": "Whole range",
    "chart.empty": "No points yet.",
    "chart.failed": "The points could not be read; it is tried again.",
    # overview
    # runs and one run
    # compare
    # data hub
    # pipelines
    # create pipeline
    # model hub
    # playground
    # settings
}
