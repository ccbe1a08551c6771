package agent

import (
	"context"
	"time"
)

// imagesLimit is the contract's: a list that takes longer is of no use to
// whoever looks at it.
const imagesLimit = 2 * time.Second

type imageLister interface {
	// ImageSummaries lists all images under the contract's key names.
	ImageSummaries(ctx context.Context) ([]map[string]any, error)
}

// getImages answers one argument per image.
func getImages(engine imageLister) handler {
	return func(ctx context.Context, _ Call) (Result, error) {
		ctx, cancel := context.WithTimeout(ctx, imagesLimit)
		defer cancel()
		images, err := engine.ImageSummaries(ctx)
		if err != nil {
			return Result{}, err
		}
		return positional(images)
	}
}
