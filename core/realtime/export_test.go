package realtime

// Leased reports whether users who come in now are entered into Presence at once, and not with the first renewal.
func (h *Hub) Leased() bool { return h.roster.held.Load() > h.roster.epoch.Load() }

// Hears reports whether the hub hears what is told every node.
func (h *Hub) Hears() bool { return h.rights.followed.Load() }
