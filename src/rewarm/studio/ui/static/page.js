// What the server cannot know by itself: the zone that dates are shown in. The theme is set before anything is drawn.
document.cookie = `rewarm_zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}; path=/; max-age=31536000; samesite=lax`;
