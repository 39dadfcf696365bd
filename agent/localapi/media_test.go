package localapi_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"vcckiosk/agent"
	"vcckiosk/agent/localapi"
	"vcckiosk/protocol/vcctest"
)

func TestFilesOverTheSocket(t *testing.T) {
	t.Parallel()
	k := newAgent(t)
	k.serve(t)
	send := func(c *localapi.Client, kind, name, content string) (string, error) {
		e, err := c.Upload(t.Context(), kind, name, strings.NewReader(content), int64(len(content)))
		return e.ID, err
	}
	gif := "GIF89a" + strings.Repeat("x", 10_000) // more than the API's other bodies may have
	if _, err := send(k.op, "image", "a.gif", gif); problemOf(err) != http.StatusForbidden {
		t.Errorf("an operator: %v", err)
	}
	for name, x := range map[string]struct {
		kind, name, content string
		want                int
	}{
		"video": {"video", "a.mp4", "x", 422}, "text": {"image", "a.gif", "hello", 422}, "a folder": {"image", "../a.gif", gif, 422},
		"too large": {"image", "a.gif", "GIF89a" + strings.Repeat("x", 2<<20), 413}, "nothing": {"image", "a.gif", "", 422},
	} {
		if _, err := send(k.tech, x.kind, x.name, x.content); problemOf(err) != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	id, err := send(k.tech, "image", "a.gif", gif)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := send(k.tech, "image", "a.gif", gif); err != nil || again != id {
		t.Errorf("the same again: %s, %v", again, err)
	}
	var files []agent.MediaFile
	if err := k.op.Get(t.Context(), "/v1/media", &files); err != nil || len(files) != 1 || files[0].ID != id || files[0].Size != int64(len(gif)) || files[0].MediaID != "" {
		t.Errorf("%+v, %v", files, err)
	}
	var st localapi.Status
	if err := k.op.Get(t.Context(), "/v1/status", &st); err != nil || st.Outbox.Media != 1 || st.Outbox.Depth != 0 {
		t.Errorf("%+v, %v", st.Outbox, err)
	}
	if err := k.op.Post(t.Context(), "/v1/media/"+id+"/drop", nil, nil); problemOf(err) != http.StatusForbidden {
		t.Errorf("an operator drops: %v", err)
	}
	if err := k.tech.Post(t.Context(), "/v1/media/"+id+"/drop", nil, nil); err != nil {
		t.Error(err)
	}
	if err := k.tech.Post(t.Context(), "/v1/media/"+id+"/drop", nil, nil); problemOf(err) != http.StatusNotFound {
		t.Errorf("dropped twice: %v", err)
	}
	// A caller that ends before it has said everything leaves nothing.
	_, err = k.tech.Upload(t.Context(), "image", "b.gif", io.MultiReader(strings.NewReader("GIF89a"), bytes.NewReader(nil)), 100)
	if err == nil {
		t.Error("half a file was taken")
	}
	if err := k.op.Get(t.Context(), "/v1/media", &files); err != nil || len(files) != 0 {
		t.Errorf("%+v, %v", files, err)
	}
}

// The key store's own key derives the key of sealed bodies: nothing else does
// in a kiosk.
func TestAKeyIsProvenByAPlatformThatEncrypts(t *testing.T) {
	t.Parallel()
	k := newAgentWith(t, vcctest.Options{Good: true, BaseKey: baseKey, Body: vcctest.BodyOptions{Encrypted: true, WithBase: false}}, nil)
	k.serve(t)
	got, err := k.tech.Provision(t.Context(), []byte(baseKey), "")
	if err != nil || !got.Active {
		t.Errorf("%+v, %v", got, err)
	}
}
