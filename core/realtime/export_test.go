package realtime

// Leased reports whether users who come in now are entered into Presence at once, and not with the first renewal.
func (h *Hub) Leased() bool { return h.roster.held.Load() > h.roster.epoch.Load() }
