package share

func mapMain([]string) error { return nil }
