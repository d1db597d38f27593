package mail

// neverSettled is what became of an attempt whose worker ended before it could say so.
const neverSettled = "it was never settled: the worker ended before"

// lastNeverSettled is why a job dies whose last attempt was lost so.
const lastNeverSettled = "the last attempt was never settled: the worker ended before"

// after is the history of j once the attempt that it was claimed for has ended so.
func (j Job) after(o Outcome) []Attempt {
	history := make([]Attempt, 0, len(j.History)+2)
	history = append(history, j.History...)
	// What was claimed and has no entry was lost with its worker. Who has begun anew by a replay begins at 1.
	if before := j.Attempts - 1; before > 0 && !j.recorded(before) {
		history = append(history, Attempt{Number: before, Error: neverSettled})
	}
	if o.Error != lastNeverSettled { // that was found, and not tried
		history = append(history, Attempt{Number: j.Attempts, At: o.At, Error: o.Error})
	}
	return history[max(0, len(history)-MaxHistory):]
}

// recorded reports whether the last entry is of the attempt with this number, or of one after it that did not count.
func (j Job) recorded(number int) bool {
	if len(j.History) == 0 {
		return false
	}
	last := j.History[len(j.History)-1].Number
	return last == number || last == number+1
}
