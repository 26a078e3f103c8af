package oci

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// tryWriting finds out by trying. Everything that it puts has a random name in
// it, so that it is nobody else's, and is removed at the end.
func (x *examiner) tryWriting(ctx context.Context) error {
	var seed [8]byte
	rand.Read(seed[:]) // it never fails
	name := "imgctl-doctor-" + hex.EncodeToString(seed[:])
	x.registry.willWrite()
	config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"author":%q}`, name))
	for _, blob := range [][]byte{config, []byte("{}")} {
		d := v1.Descriptor{MediaType: "application/octet-stream", Digest: digestOf(blob), Size: int64(len(blob))}
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil }
		if err := x.registry.putBlob(ctx, d, open); err != nil {
			return err
		}
	}
	x.tryMount(ctx, digestOf(config))
	first, err := x.put(ctx, doctorImage(config, types.OCIManifestSchema1, types.OCIConfigJSON, "first"), name)
	if err != nil {
		x.found("write", No, "%v", err)
		return err
	}
	x.found("write", Yes, "a blob, a manifest and the tag %s were put", name)
	put := []*Manifest{first}
	put = append(put, x.tryReferrers(ctx, first)...)
	put = append(put, x.tryTypes(ctx, config)...)
	put = append(put, x.tryTag(ctx, config, name)...)
	x.cleanUp(ctx, name, put)
	return nil
}

// doctorImage is an image without layers.
func doctorImage(config []byte, manifestType, configType types.MediaType, note string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[],"annotations":{"dev.imgctl.doctor":%q}}`,
		manifestType, configType, digestOf(config), len(config), note)
}

// put puts a manifest under a tag or, with none, its digest.
func (x *examiner) put(ctx context.Context, body []byte, tag string) (*Manifest, error) {
	m, err := ParseManifest(body, "")
	if err != nil {
		return nil, err
	}
	if tag == "" {
		tag = m.Descriptor.Digest.String()
	}
	return m, x.registry.putManifest(ctx, tag, m)
}

// tryMount has a blob mounted from the repository itself: no other is known.
func (x *examiner) tryMount(ctx context.Context, h v1.Hash) {
	ok, err := x.registry.mountBlob(ctx, v1.Descriptor{Digest: h}, x.registry)
	switch {
	case err != nil:
		x.found("mount", No, "%v", err)
	case ok:
		x.found("mount", Yes, "a blob was mounted")
	default:
		x.found("mount", No, "it wants the blob to be sent instead")
	}
}

// tryReferrers puts a referrer of subject, and looks for it.
func (x *examiner) tryReferrers(ctx context.Context, subject *Manifest) []*Manifest {
	const kind = "application/vnd.imgctl.doctor"
	img, err := artifact.Artifact{ArtifactType: kind, Subject: &subject.Descriptor}.Image()
	if err != nil {
		x.found("artifacts", Unknown, "%v", err)
		return nil
	}
	body, err := img.RawManifest()
	if err != nil {
		x.found("artifacts", Unknown, "%v", err)
		return nil
	}
	m, err := x.put(ctx, body, "")
	if err != nil {
		x.found("artifacts", No, "%v", err)
		x.found("referrers", Unknown, "nothing could be put that refers to something")
		return nil
	}
	x.found("artifacts", Yes, "one with a type of its own and an empty configuration was put")
	listed, api, err := x.contains(ctx, subject.Descriptor.Digest, m.Descriptor.Digest)
	switch {
	case err != nil:
		x.found("referrers", Unknown, "%v", err)
	case listed:
		x.found("referrers", Yes, "what was put is listed")
	case api:
		x.found("referrers", No, "it answers with a list that what was put is not in: the fallback tag is used")
	default:
		x.found("referrers", No, "the fallback tag is used")
	}
	return []*Manifest{m}
}

// tryTypes puts an index, and an image as Docker writes it.
func (x *examiner) tryTypes(ctx context.Context, config []byte) (put []*Manifest) {
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"dev.imgctl.doctor":"index"}}`)
	docker := doctorImage(config, types.DockerManifestSchema2, types.DockerConfigJSON, "docker")
	for _, t := range []struct {
		what string
		body []byte
	}{{"indexes", index}, {"Docker manifests", docker}} {
		m, err := x.put(ctx, t.body, "")
		if err != nil {
			x.found(t.what, No, "%v", err)
			continue
		}
		x.found(t.what, Yes, "one was put")
		put = append(put, m)
	}
	return put
}

// tryTag moves the tag to another image.
func (x *examiner) tryTag(ctx context.Context, config []byte, tag string) []*Manifest {
	m, err := x.put(ctx, doctorImage(config, types.OCIManifestSchema1, types.OCIConfigJSON, "second"), tag)
	if m == nil {
		return nil
	}
	at, lookErr := x.registry.head(ctx, tag)
	switch {
	case err == nil && lookErr == nil && at.Digest == m.Descriptor.Digest:
		x.found("immutable tags", No, "a tag was moved")
	case err == nil:
		x.found("immutable tags", Unknown, "it took another digest for a tag and does not show it")
		return nil
	case Unreachable(err):
		x.found("immutable tags", Unknown, "%v", err)
		return nil
	default:
		x.found("immutable tags", Yes, "%v", err)
		return nil
	}
	return []*Manifest{m}
}

// cleanUp removes what was put, the tag with its manifest.
func (x *examiner) cleanUp(ctx context.Context, tag string, put []*Manifest) {
	answer, why := Yes, "everything that was put is removed, but for blobs, which the registry collects"
	for i := len(put) - 1; i >= 0; i-- { // referrers before what they refer to
		h := put[i].Descriptor.Digest
		if err := x.remove(ctx, h); err != nil {
			answer, why = No, err.Error()
			x.Left = append(x.Left, x.repo.name+"@"+h.String())
		}
	}
	if _, err := x.registry.head(ctx, tag); !NotFound(err) {
		x.Left = append(x.Left, x.repo.name+":"+tag)
	}
	x.found("delete", answer, "%s", why)
}

func (x *examiner) remove(ctx context.Context, h v1.Hash) error {
	const op = "delete manifest"
	req, err := http.NewRequest(http.MethodDelete, x.registry.url("manifests", h.String()).String(), nil)
	if err != nil {
		return err
	}
	resp, err := x.registry.do(ctx, op, x.registry.object(h.String()), req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotFound {
		return answerError(op, x.registry.object(h.String()), resp)
	}
	drain(resp.Body)
	return nil
}
